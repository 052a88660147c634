"""From the journal to the sinks: a row that nobody has taken is sent after the next start, too."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from thfr.deploy.sinks.sender import Sender
from thfr.deploy.watch.journal import Journal


class Deliveries:
    """Feeds senders from the journal and notes how far each has come.

    A row is sent at least once: a kill between its delivery and the note has it sent again, under its ``id``.
    """

    def __init__(self, journal: Journal, senders: Sequence[Sender], model: str) -> None:
        self._journal, self._senders, self._model = journal, senders, model
        self._fed = [journal.delivered(sender.sink.name) for sender in senders]
        self._unsettled: list[deque[int]] = [deque() for _ in senders]
        self._settled = [0 for _ in senders]

    def step(self) -> None:
        """Queue new rows, as many as fit, and note those that are settled."""
        for number, sender in enumerate(self._senders):
            for row in list(self._journal.rows(self._fed[number], sender.room)):
                sender.put({"model": self._model, **row})
                self._unsettled[number].append(row["id"])
                self._fed[number] = row["id"]
            self._note(number, sender)

    def close(self, patience: float) -> int:
        """Deliver for at most so many seconds; gives how many rows are left for the next start."""
        self.step()
        for number, sender in enumerate(self._senders):
            sender.close(patience, bury=False)
            self._note(number, sender)
        return sum(len(list(self._journal.rows(self._journal.delivered(s.sink.name)))) for s in self._senders)

    def _note(self, number: int, sender: Sender) -> None:
        last = None
        while self._settled[number] < sender.finished:
            last = self._unsettled[number].popleft()
            self._settled[number] += 1
        if last is not None:
            self._journal.set_delivered(sender.sink.name, last)

"""What has been inspected: an SQLite file in which every image has at most one row.

A row is written in one transaction once the image is scored, so a kill at any moment leaves it whole or
absent; an image without a row is scored (again) at the next start.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thfr.errors import InputError
from thfr.io import atomic_path

JOURNAL, LINES = "journal.db", "results.jsonl"
_COLUMNS = (
    "id", "time", "file", "size", "mtime_ns", "sha256", "score", "verdict", "threshold", "findings",
    "picture", "target", "error",
)  # fmt: skip
_SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    file TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    sha256 TEXT, score REAL, verdict TEXT, threshold REAL, findings TEXT NOT NULL,
    picture TEXT, target TEXT, error TEXT,
    moved INTEGER NOT NULL,
    UNIQUE (file, size, mtime_ns)
);
CREATE INDEX IF NOT EXISTS not_moved ON images (moved) WHERE moved = 0;
CREATE INDEX IF NOT EXISTS targets ON images (target);
CREATE TABLE IF NOT EXISTS deliveries (sink TEXT PRIMARY KEY, id INTEGER NOT NULL);
"""


@dataclass(frozen=True)
class Arrival:
    """One state of one file: the same name with other bytes, written later, is another arrival."""

    file: str
    """Path relative to the watched folder, with forward slashes."""
    size: int
    mtime_ns: int


class Journal:
    """Opened by one process at a time; :meth:`close` it.

    ``out/results.jsonl`` holds the same rows as lines; it is made anew from the journal at each start.

    Raises:
        InputError: the folder cannot be written, the file is no journal, or another process has it open.
    """

    def __init__(self, out: Path) -> None:
        self._lines = out / LINES
        path = out / JOURNAL
        try:
            out.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=1, isolation_level=None)
            self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            hint = ": another thfr watch has it open" if "locked" in str(error) else ""
            raise InputError(f"watch: cannot open {path}: {error}{hint}") from error
        self._lines_are_whole = False
        self._write_lines()

    def holds(self, arrival: Arrival) -> bool:
        """Whether it has been inspected."""
        query = "SELECT 1 FROM images WHERE file = ? AND size = ? AND mtime_ns = ?"
        values = (arrival.file, arrival.size, arrival.mtime_ns)
        return self._database.execute(query, values).fetchone() is not None

    def add(self, arrival: Arrival, entry: dict[str, Any], folder: str | None) -> dict[str, Any]:
        """Write the row of an arrival and give it.

        Args:
            entry: sha256, score, verdict, threshold, findings, picture, target (where a copy lies already)
                and error, as far as there are any.
            folder: the file is to be moved into this folder of the results; None: it stays.
        """
        self._database.execute("BEGIN IMMEDIATE")
        try:
            target = entry.get("target") if folder is None else self._free_target(folder, arrival.file)
            row = {**dict.fromkeys(_COLUMNS), "findings": [], "time": time.time(), **entry}
            row |= {"file": arrival.file, "size": arrival.size, "mtime_ns": arrival.mtime_ns}
            row["target"] = target
            held = {**row, "findings": json.dumps(row["findings"], allow_nan=False), "moved": folder is None}
            names = ", ".join(held)
            marks = ", ".join(f":{name}" for name in held)
            row["id"] = self._database.execute(
                f"INSERT INTO images ({names}) VALUES ({marks})", held
            ).lastrowid
            self._database.execute("COMMIT")
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._write_lines(row)
        return row

    def _write_lines(self, row: dict[str, Any] | None = None) -> None:
        """Append a row to the lines, or write them all anew after a start or a full disk."""
        if self._lines_are_whole and row is not None:
            self._lines_are_whole = False
            with self._lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")
        else:
            with atomic_path(self._lines) as temporary, temporary.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(each, allow_nan=False) + "\n" for each in self.rows())
        self._lines_are_whole = True

    def to_move(self) -> list[tuple[int, Arrival, str]]:
        """Number, arrival and target of the files that are still to be moved."""
        query = "SELECT id, file, size, mtime_ns, target FROM images WHERE moved = 0 ORDER BY id"
        return [
            (number, Arrival(file, size, mtime), target)
            for number, file, size, mtime, target in self._database.execute(query)
        ]

    def set_moved(self, number: int) -> None:
        """Note that a file is at its target."""
        self._database.execute("UPDATE images SET moved = 1 WHERE id = ?", (number,))

    def delivered(self, sink: str) -> int:
        """The number of the last row that a sink has settled; a new sink begins behind what is there."""
        last = self._database.execute("SELECT coalesce(max(id), 0) FROM images").fetchone()[0]
        self._database.execute("INSERT OR IGNORE INTO deliveries VALUES (?, ?)", (sink, last))
        query = "SELECT id FROM deliveries WHERE sink = ?"
        return int(self._database.execute(query, (sink,)).fetchone()[0])

    def set_delivered(self, sink: str, number: int) -> None:
        """Note that a sink has settled all rows up to this one."""
        self._database.execute("UPDATE deliveries SET id = ? WHERE sink = ?", (number, sink))

    def rows(self, after: int = 0, limit: int = -1) -> Iterator[dict[str, Any]]:
        """The rows behind this number, at most ``limit``, in the order in which they were written."""
        names = ", ".join(_COLUMNS)
        query = f"SELECT {names} FROM images WHERE id > ? ORDER BY id LIMIT ?"
        for values in self._database.execute(query, (after, limit)):
            row = dict(zip(_COLUMNS, values, strict=True))
            yield {**row, "findings": json.loads(row["findings"])}

    def counts(self) -> dict[str, int]:
        """How many images were good, bad, without verdict (``none``) and ``unreadable``."""
        found = dict.fromkeys(("good", "bad", "none", "unreadable"), 0)
        query = """SELECT CASE WHEN error IS NOT NULL THEN 'unreadable' ELSE coalesce(verdict, 'none') END,
            count(*) FROM images GROUP BY 1"""
        return found | dict(self._database.execute(query).fetchall())

    def close(self) -> None:
        """Release the file for others."""
        self._database.close()

    def _free_target(self, folder: str, file: str) -> str:
        """Where a file goes; a name that an earlier one has taken gets a number."""
        path = Path(folder, file)
        target, number = path, 1
        while self._database.execute(
            "SELECT 1 FROM images WHERE target = ?", (target.as_posix(),)
        ).fetchone():
            number += 1
            target = path.with_name(f"{path.stem}-{number}{path.suffix}")
        return target.as_posix()

"""What ``/metrics`` tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from thfr.deploy.serve.batching import Worker
from thfr.deploy.sinks.sender import Sender

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._inspections = Counter(
            "thfr_inspections", "Images inspected", ["model", "verdict"], registry=registry
        )
        self._seconds = Histogram(
            "thfr_inspection_seconds",
            "From the decoded image to its score, waiting included",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._batch_images = Histogram(
            "thfr_batch_images", "Images scored together", ["model"], buckets=_SIZES, registry=registry
        )
        self._batch_seconds = Histogram(
            "thfr_batch_seconds", "Time to score a batch", ["model"], buckets=_SECONDS, registry=registry
        )
        self._waiting = Gauge("thfr_waiting_images", "Images in the queue", ["model"], registry=registry)
        self.refused = Counter(
            "thfr_refused_requests", "Requests and images refused", ["status"], registry=registry
        )
        self._sent = Counter(
            "thfr_sent_results", "Results by what became of them", ["sink", "outcome"], registry=registry
        )
        self._unsent = Gauge(
            "thfr_unsent_results", "Results that wait for a sink", ["sink"], registry=registry
        )
        self._drift = Gauge(
            "thfr_drift_psi",
            "Population stability index of the last images against those of calibration; NaN: unknown",
            ["model", "of"],
            registry=registry,
        )
        self.log_errors = Counter(
            "thfr_log_errors", "Inspections that could not be logged", registry=registry
        )

    def inspected(self, model: str, verdict: str | None, seconds: float) -> None:
        self._inspections.labels(model, verdict or "none").inc()
        self._seconds.labels(model).observe(seconds)

    def batches(self, model: str) -> Callable[[int, float], None]:
        """What a worker calls for each batch."""
        images, seconds = self._batch_images.labels(model), self._batch_seconds.labels(model)

        def observe(count: int, took: float) -> None:
            images.observe(count)
            seconds.observe(took)

        return observe

    def watch(self, model: str, worker: Worker | None) -> None:
        """Show the length of this worker's queue, and its model's drift, instead of those of an earlier one;
        None: no longer.
        """
        if worker is None:
            self._waiting.remove(model)
            for of in ("scores", "features"):
                self._drift.remove(model, of)
            return
        self._waiting.labels(model).set_function(lambda: float(worker.depth))

        def index(of: str) -> float:
            found = worker.model.drift.report()[of]
            return float("nan") if found is None else float(found["psi"])

        for of in ("scores", "features"):
            self._drift.labels(model, of).set_function(lambda of=of: index(of))  # type: ignore[misc]

    def watch_sender(self, sender: Sender) -> None:
        """Count what becomes of this sender's rows."""
        name = sender.sink.name
        self._unsent.labels(name).set_function(lambda: float(sender.waiting))
        counters = {outcome: self._sent.labels(name, outcome) for outcome in ("delivered", "dead")}
        sender.told = lambda outcome: counters[outcome].inc()

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

"""What ``/metrics`` tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from thfr.deploy.serve.batching import Worker

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

    def watch(self, model: str, worker: Worker) -> None:
        """Show the length of this worker's queue."""
        self._waiting.labels(model).set_function(lambda: float(worker.depth))

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

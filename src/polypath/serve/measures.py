"""What Prometheus reads: requests, times, batches, refusals, reloads, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

if TYPE_CHECKING:
    from polypath.serve.service import Service

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Measures:
    """The metrics of one application, in a registry of its own.

    Routes are labelled by their template and tasks by names the system knows, so that no caller can add a label.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "polypath_requests", "Requests by route and HTTP status.", ("route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "polypath_request_seconds",
            "Seconds from the first byte of a request to the last of its answer.",
            ("route",),
            registry=registry,
            buckets=_SECONDS,
        )
        self.predictions = Counter("polypath_predictions", "Inputs answered, by task.", ("task",), registry=registry)
        self.batch = Histogram("polypath_batch_inputs", "Inputs computed at once.", registry=registry, buckets=_ROWS)
        self.refused = Counter("polypath_refused", "Refused requests by reason.", ("code",), registry=registry)
        self.in_progress = Gauge("polypath_in_progress", "Prediction requests in progress.", registry=registry)
        ProcessCollector(registry=registry)

    def watch(self, service: Service) -> None:
        """Also show what the service knows: queued requests, the generation, failed reloads."""
        for name, text, read in (
            ("polypath_queued", "Requests that wait for a worker.", lambda: service.batcher.waiting),
            ("polypath_generation", "Grows by one at every change on disk.", lambda: service.live.now.number),
            ("polypath_tasks", "Tasks in the system.", lambda: len(service.live.now.tasks)),
            ("polypath_reload_failures", "Changes on disk that could not be read.", lambda: service.live.failures),
        ):
            Gauge(name, text, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """Everything in the text format of Prometheus."""
        return generate_latest(self.registry)

"""Numbers this process counts, and the Prometheus text that shows them together with what the tables say."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.registry import Collector

WORKER_LABEL = "worker"
LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Labelled(Collector):
    """The metrics of `registry`, each sample with one label more."""

    def __init__(self, registry: CollectorRegistry, worker: str) -> None:
        self._registry = registry
        self._worker = worker

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [
                sample._replace(labels={**sample.labels, WORKER_LABEL: self._worker}) for sample in metric.samples
            ]
            yield metric


class Metrics:
    """One registry per application, so that several can live in one test process.

    `worker` names the process where several share a port: each scrape is answered by one of them, so their numbers must be
    series of their own; under one name a counter would seem to run backwards.
    """

    def __init__(self, worker: str | None = None) -> None:
        self.registry = CollectorRegistry()
        self._worker = worker
        self.requests = Counter(
            "crewkit_http_requests",
            "Requests answered, by route template, method and status",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.latency = Histogram(
            "crewkit_http_request_seconds",
            "Seconds from the request's head to the end of its answer",
            ("route", "method"),
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.append_latency = Histogram(
            "crewkit_append_seconds",
            "Seconds until a batch of appends was durable",
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.append_events = Counter(
            "crewkit_append_events", "Events handed to the store by this process", registry=self.registry
        )
        self.append_batches = Counter("crewkit_append_batches", "Batches committed", registry=self.registry)
        self.appends = Counter("crewkit_appends", "Appends committed, in batches", registry=self.registry)
        self.append_waiting = Gauge(
            "crewkit_append_queue", "Appends of this process that wait for a batch", registry=self.registry
        )
        self.streams_open = Gauge("crewkit_streams_open", "Live streams (SSE) open now", registry=self.registry)
        self.streams_lagged = Counter(
            "crewkit_streams_lagged", "Times a slow live-stream client was told that it lags", registry=self.registry
        )
        self.nats_connected = Gauge(
            "crewkit_nats_connected", "1 while this process is connected to NATS", registry=self.registry
        )
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (route, method, status)
        children = self._known.get(key)
        if children is None:
            children = (self.requests.labels(route, method, str(status)), self.latency.labels(route, method))
            self._known[key] = children
        children[0].inc()
        children[1].observe(seconds)

    def on_batch(self, appends: int, events: int, seconds: float) -> None:
        """Count one batch that the store committed."""
        self.append_latency.observe(seconds)
        self.append_batches.inc()
        self.appends.inc(appends)
        self.append_events.inc(events)

    def exposition(self) -> bytes:
        """The process's own numbers in Prometheus text format."""
        if self._worker is None:
            return generate_latest(self.registry)
        shown = CollectorRegistry()
        shown.register(_Labelled(self.registry, self._worker))
        return generate_latest(shown)

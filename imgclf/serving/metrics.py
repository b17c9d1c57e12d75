"""What a server counts, in Prometheus' format. May import prometheus-client only."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64)
PATHS = ("/predict", "/health", "/metrics", "/docs", "/openapi.json")  # anything else is counted as one
OTHER = "other"


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "imgclf_requests", "Requests that were answered.", ("path", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "imgclf_request_seconds", "From a request's first line to its whole answer: /predict, status 200.",
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._batches = Histogram(
            "imgclf_batch_images", "Images that were computed at once.", buckets=SIZES, registry=self.registry
        )
        self._images = Counter("imgclf_images", "Images, by what became of them.", ("result",), registry=self.registry)
        self.waiting = Gauge(
            "imgclf_waiting_images", "Images that are decoded, computed or wait for it.", registry=self.registry
        )
        self.held = Gauge("imgclf_held_bytes", "Bytes of bodies in memory.", registry=self.registry)
        ProcessCollector(registry=self.registry)  # memory, processor time and open files, on Linux

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path if path in PATHS else OTHER, str(status)).inc()
        if path == PATHS[0] and status == 200:
            self._seconds.observe(seconds)

    def computed(self, count: int) -> None:
        """Count a batch."""
        self._batches.observe(count)

    def image(self, result: str) -> None:
        """Count an image: "classified" or "unreadable"."""
        self._images.labels(result).inc()

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)

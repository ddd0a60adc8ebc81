"""The local page of metrics for Prometheus: on loopback, off unless site.toml sets a port.

Nothing on it depends on one patient, and the coordinator has seen all of it already; still it stays here.
"""

from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from client.channel import Heard
from medgan_core.envelope import Answered
from medgan_core.errors import InputError
from medgan_core.messages import Update

_LOOPBACK = "127.0.0.1"
_SECONDS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class Page:
    """An HTTP server on loopback with a registry of its own; port 0 serves nothing."""

    def __init__(self, port: int) -> None:
        self.registry = CollectorRegistry()
        self._port = port
        self._served: tuple[object, object] | None = None

    def __enter__(self) -> Self:
        if self._port:
            try:
                self._served = start_http_server(self._port, _LOOPBACK, self.registry)
            except OSError as error:
                raise InputError(
                    f"metrics.port = {self._port}: {error.strerror}; choose another, or 0 for none"
                ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._served is not None:
            server, thread = self._served
            server.shutdown()  # type: ignore[attr-defined]
            server.server_close()  # type: ignore[attr-defined]
            thread.join()  # type: ignore[attr-defined]


class TrainerMetrics:
    """What a trainer counts. `cap` is the most ε that the site's policy lets an account spend."""

    def __init__(self, registry: CollectorRegistry, cap: float) -> None:
        self._cap = cap
        self._answered = Counter(
            "medgan_rounds_answered",
            "Rounds that were answered, replays included.",
            ["phase"],
            registry=registry,
        )
        self._refused = Counter(
            "medgan_refusals", "Questions that were refused or failed.", registry=registry
        )
        self._came = Counter("medgan_bytes_came", "Bytes that came from the node.", registry=registry)
        self._left = Counter("medgan_bytes_left", "Bytes that were handed to the node.", registry=registry)
        self._seconds = Histogram(
            "medgan_round_seconds",
            "Seconds of work for a round.",
            ["phase"],
            registry=registry,
            buckets=_SECONDS,
        )
        self._spent = Gauge(
            "medgan_epsilon_spent", "Epsilon spent, by account.", ["account"], registry=registry
        )
        self._over = Gauge("medgan_epsilon_left", "Epsilon left of the cap.", ["account"], registry=registry)

    def heard(self, heard: Heard) -> None:
        """Count a question of the channel."""
        self._came.inc(heard.bytes_in)
        self._left.inc(heard.bytes_out)
        if heard.refused:
            self._refused.inc()
        elif heard.kind and heard.kind not in ("proposal", "farewell"):
            self._answered.labels(heard.kind).inc()
            self._seconds.labels(heard.kind).observe(heard.seconds)

    def answered(self, answer: Answered) -> None:
        """Read what an update's receipt says of its account."""
        if isinstance(answer, Update):
            self.spent(answer.receipt.account, answer.receipt.spent)

    def spent(self, account: str, epsilon: float) -> None:
        """Set what an account has spent."""
        self._spent.labels(account).set(epsilon)
        self._over.labels(account).set(max(0.0, self._cap - epsilon))


class NodeMetrics:
    """What a node's supervisor counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter(
            "medgan_node_restarts", "How often a process of the node was started again.", ["process"],
            registry=registry,
        )  # fmt: skip

    def ended(self, name: str, code: int, seconds: float) -> None:
        """Count an end, after which the supervisor starts anew."""
        self._ended.labels(name).inc()

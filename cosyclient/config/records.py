"""Every knob as a field of a frozen record, one record per concern, checked when made."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from cosyclient.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

Overflow = Literal["block", "reject", "caller_runs"]


def check_number(name: str, value: Any, *, low: float, high: float = math.inf, above: bool = False) -> None:
    """Raise `ConfigurationError` naming the field and the rule unless *value* is a number within its bounds."""
    fine = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not fine or value > high or (value <= low if above else value < low):
        rule = f"above {low:g}" if above else f"at least {low:g}"
        raise ConfigurationError(
            f"{name}: must be a number {rule}{'' if math.isinf(high) else f' and at most {high:g}'}, got {value!r}"
        )


def check_count(name: str, value: Any, *, low: int = 1, high: int | None = None) -> None:
    """Raise `ConfigurationError` naming the field and the rule unless *value* is a whole number within its bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        upper = "" if high is None else f" and at most {high}"
        raise ConfigurationError(f"{name}: must be a whole number of at least {low}{upper}, got {value!r}")


def check_flag(name: str, value: Any) -> None:
    """Raise `ConfigurationError` naming the field and the rule unless *value* is a truth."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}: must be True or False, got {value!r:.80}")


def check_verify(name: str, value: Any) -> None:
    """Raise `ConfigurationError` naming the field and the rule unless *value* says whom TLS is to trust."""
    if isinstance(value, bool):
        return
    import ssl

    if isinstance(value, ssl.SSLContext):
        if value.protocol == ssl.PROTOCOL_TLS_SERVER:
            raise ConfigurationError(f"{name}: is a server's context; make a client's, as ssl.create_default_context()")
    elif not isinstance(value, (str, os.PathLike)):
        raise ConfigurationError(
            f"{name}: must be True, False, the path of a CA file or directory, or an ssl.SSLContext, got {value!r:.80}"
        )
    elif not os.fspath(value) or not os.path.exists(value):
        raise ConfigurationError(f"{name}: there is no CA file or directory {os.fspath(value)!r}")


@dataclass(frozen=True, kw_only=True)
class TimeoutConfig:
    """Set how long a call and its steps may take, in seconds."""

    base: float = 30.0
    """What every call for one text is given."""
    code_points_per_second: float = 20.0
    """Each so many code points of the text add a second."""
    job: float = 600.0
    """What each text of a bulk call is given, before ``allowance`` for all audio that the call has under way is added:
    it waits for its siblings and for interactive calls, and nobody waits for it alone."""
    connect: float = 5.0
    """What making a connection, TLS included, is given."""
    first_byte: float = 5.0
    """What the first byte and every gap between reads are given, before the audio asked for is added; twice as much
    with each retry, and more while much is in flight."""
    allowance: float = 1.0
    """Seconds added per expected second of audio: to ``first_byte`` for a batch, to ``job`` for a bulk call."""

    def __post_init__(self) -> None:
        for name in ("base", "code_points_per_second", "job", "connect", "first_byte"):
            check_number(f"timeouts.{name}", getattr(self, name), low=0, above=True)
        check_number("timeouts.allowance", self.allowance, low=0)

    def of_call(self, code_points: int) -> float:
        """Return the seconds a call is given whose text has *code_points*."""
        return self.base + code_points / self.code_points_per_second

    def of_job(self, audio: float) -> float:
        """Return the seconds a text of a bulk call is given while so many seconds of *audio* of that are under way."""
        return self.job + audio * self.allowance

    def of_reads(self, expected_seconds: float) -> float:
        """Return the seconds granted to the first byte, and to each later gap, of a batch of so much audio."""
        return self.first_byte + expected_seconds * self.allowance


@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    """Set the back-off schedule and the budget that all calls of a client share."""

    initial: float = 0.2
    """The first wait's ceiling in seconds; each later one doubles."""
    cap: float = 20.0
    """No wait's ceiling exceeds this many seconds."""
    max_retry_after: float = 120.0
    """A Retry-After beyond this many seconds is not waited for; the error carries it instead."""
    budget: int | None = None
    """Tokens in the full budget; None: as many as a retry of everything that may be in flight costs, at least 500."""
    transient_cost: int = 14
    """Tokens a retry after a transient failure costs (botocore's 2026 figures)."""
    throttle_cost: int = 5
    """Tokens a retry after throttling costs."""
    wait_for_service: float | None = None
    """Seconds that texts of bulk calls wait while the service is down before they fail, from the first failure; 0 not
    at all. ``None``: until each text's deadline, but 30 s if the service has never answered."""

    def __post_init__(self) -> None:
        check_number("retry.initial", self.initial, low=0, above=True)
        check_number("retry.cap", self.cap, low=self.initial)
        check_number("retry.max_retry_after", self.max_retry_after, low=0)
        if self.budget is not None:
            check_count("retry.budget", self.budget)
        check_count("retry.transient_cost", self.transient_cost, high=self.full_budget(0))
        check_count("retry.throttle_cost", self.throttle_cost, high=self.full_budget(0))
        if self.wait_for_service is not None:
            check_number("retry.wait_for_service", self.wait_for_service, low=0)

    def full_budget(self, in_flight: int) -> int:
        """Return the tokens in the full budget of a client with so many attempts *in_flight* at most."""
        return self.budget or max(500, in_flight * self.transient_cost)


@dataclass(frozen=True, kw_only=True)
class BreakerConfig:
    """Set when an endpoint's breaker opens and how it probes."""

    failure_rate: float = 0.5
    """Share of failures in the window at which it opens."""
    minimum_failures: int = 20
    """Fewer failures in the window than this decide nothing; all of what was under way at the first one count as one.
    Failures, not calls: of a service that fails one call in five, ten of some twenty will fail by chance every few
    hundred; twenty of forty hardly ever."""
    window: float = 30.0
    """Seconds the window reaches back."""
    open_for: float = 30.0
    """Seconds it stays open before it probes, longer when the service's Retry-After says so."""
    jitter: float = 0.1
    """Share by which ``open_for`` varies, so that a fleet does not probe in step."""
    probes: int = 5
    """Calls let through half-open; it closes when fewer than ``failure_rate`` of them fail."""

    def __post_init__(self) -> None:
        check_number("breaker.failure_rate", self.failure_rate, low=0, high=1, above=True)
        check_count("breaker.minimum_failures", self.minimum_failures)
        check_number("breaker.window", self.window, low=0, above=True)
        check_number("breaker.open_for", self.open_for, low=0, above=True)
        check_number("breaker.jitter", self.jitter, low=0, high=1)
        check_count("breaker.probes", self.probes)


@dataclass(frozen=True, kw_only=True)
class PacingConfig:
    """Set how sends are spread over time."""

    burst: int = 10
    """Requests that may leave at once after a pause, before pacing spaces them."""

    def __post_init__(self) -> None:
        check_count("pacing.burst", self.burst)


@dataclass(frozen=True, kw_only=True)
class HedgeConfig:
    """Set whether texts that take unusually long are sent once more; whichever reply comes first counts."""

    extra: float = 0.0
    """Share of requests that may be sent for this alone, 0.02 for example; 0 turns it off. Every hedge is billed."""

    def __post_init__(self) -> None:
        check_number("hedge.extra", self.extra, low=0, high=0.2)


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Set how many connections are kept and for how long."""

    expected_latency: float = 0.2
    """Seconds a request is expected to take: Little's Law sizes the pool by it until ``concurrency`` is given."""
    headroom: float = 2.0
    """Factor above the law's average."""
    idle_limit: float = 4.0
    """Seconds after which an idle connection is not used again; uvicorn's servers close theirs after 5."""
    max_age: float = 300.0
    """Seconds (±20 %) after which a connection is closed, so that new addresses behind a name are found."""
    per_route: int | None = None
    """Size the pool by the field report's 2 × cores × concurrency up to this many, instead of by Little's Law."""
    total: int | None = None
    """Connections over all routes; ``None`` is no limit beyond each route's."""

    def __post_init__(self) -> None:
        check_number("pool.expected_latency", self.expected_latency, low=0, above=True)
        check_number("pool.headroom", self.headroom, low=1)
        check_number("pool.idle_limit", self.idle_limit, low=0)
        check_number("pool.max_age", self.max_age, low=0, above=True)
        for name in ("per_route", "total"):
            if getattr(self, name) is not None:
                check_count(f"pool.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class QueueConfig:
    """Set how many texts may wait and what happens to one too many."""

    max_pending: int | None = None
    """Texts accepted and not yet resolved; ``None`` is two fillings of everything in flight."""
    overflow: Overflow = "block"
    """``block`` until the deadline, ``reject`` at once, or ``caller_runs``: the caller sends a batch itself."""
    linger: float = 0.0
    """Seconds an unfilled batch waits for company after it may be sent; 0 never keeps an idle client waiting."""
    max_audio_bytes: int = 256 << 20
    """Audio that one bulk job may have under way or unread, as expected from its texts; one batch always fits."""
    single_flight: bool = True
    """Whether equal utterances in flight travel once."""
    bulk_share: float = 0.75
    """Share of the places that bulk calls may take; the rest is kept for interactive ones."""

    def __post_init__(self) -> None:
        if self.max_pending is not None:
            check_count("queue.max_pending", self.max_pending)
        check_count("queue.max_audio_bytes", self.max_audio_bytes)
        if self.overflow not in ("block", "reject", "caller_runs"):
            raise ConfigurationError(f"queue.overflow: must be block, reject or caller_runs, got {self.overflow!r}")
        check_number("queue.linger", self.linger, low=0, high=1)
        check_number("queue.bulk_share", self.bulk_share, low=0, high=1, above=True)


@dataclass(frozen=True, kw_only=True)
class WireConfig:
    """Set what goes over the wire and how much is taken from it."""

    frames: bool = True
    """Whether audio is asked for as length-prefixed frames, with JSON as the alternative."""
    gzip_requests: bool | None = None
    """Whether JSON requests travel gzipped; ``None`` from the moment on that the service says ``Accept-Encoding: gzip``
    in a reply (RFC 9110, 12.5.3). What a service refuses for being gzipped is sent again plain at once, and so is all
    that follows."""
    gzip_above_bytes: int | None = 1024
    """Request bodies up to this are never gzipped; ``None``: none is."""
    max_request_bytes: int = 1 << 20
    """A batch is sealed before its body would exceed this (the service's limit is 1 MiB)."""
    max_batch_seconds: float = math.inf
    """A batch is sealed before its expected audio would exceed so many seconds."""
    max_reply_bytes: int = 256 << 20
    """A reply is refused beyond this many bytes, counted after decompression."""
    verify: bool | str | os.PathLike[str] | ssl.SSLContext = True
    """TLS verification: on, off (say so explicitly), the path of a CA file or directory, or a context of your own."""

    def __post_init__(self) -> None:
        if self.gzip_requests is not None and not isinstance(self.gzip_requests, bool):
            raise ConfigurationError(f"wire.gzip_requests: must be True, False or None, got {self.gzip_requests!r}")
        if self.gzip_above_bytes is not None:
            check_count("wire.gzip_above_bytes", self.gzip_above_bytes, low=0)
        check_count("wire.max_request_bytes", self.max_request_bytes, low=1024)
        check_count("wire.max_reply_bytes", self.max_reply_bytes, low=1024)
        check_verify("wire.verify", self.verify)
        if not self.max_batch_seconds > 0:
            raise ConfigurationError(f"wire.max_batch_seconds: must be above 0, got {self.max_batch_seconds!r}")


@dataclass(frozen=True, kw_only=True)
class AdaptiveConfig:
    """Set how the number of attempts in flight follows what the service can take.

    It starts at the pool's size and shrinks on evidence only: latency that has grown with what is in flight and is
    beyond ``tolerance``, time-outs without an answer to anybody, throttling.
    """

    enabled: bool = True
    """Whether the limit moves; otherwise the pool's size is all that bounds it."""
    tolerance: float = 2.0
    """Seconds an attempt may take however much its latency has grown, or a quarter of its texts' time if less."""
    backoff: float = 0.9
    """Factor on throttling, once per event."""
    step: float = 0.1
    """Share by which the limit grows again, per round of attempts that filled it; at least 1."""

    def __post_init__(self) -> None:
        check_flag("adaptive.enabled", self.enabled)
        check_number("adaptive.tolerance", self.tolerance, low=0, above=True)
        check_number("adaptive.backoff", self.backoff, low=0.1, high=0.99)
        check_number("adaptive.step", self.step, low=0, high=1, above=True)


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """Hold every knob that `CosyClient` has no argument for."""

    timeouts: TimeoutConfig = field(default_factory=TimeoutConfig)
    retry: RetryConfig = field(default_factory=RetryConfig)
    breaker: BreakerConfig = field(default_factory=BreakerConfig)
    pacing: PacingConfig = field(default_factory=PacingConfig)
    hedge: HedgeConfig = field(default_factory=HedgeConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    queue: QueueConfig = field(default_factory=QueueConfig)
    wire: WireConfig = field(default_factory=WireConfig)
    adaptive: AdaptiveConfig = field(default_factory=AdaptiveConfig)

    def __post_init__(self) -> None:
        for part in fields(self):
            kind = part.default_factory
            if not isinstance(getattr(self, part.name), kind):  # type: ignore[arg-type]
                raise ConfigurationError(f"config.{part.name}: must be a {kind.__name__}")  # type: ignore[union-attr]

    @classmethod
    def field_report(cls) -> ClientConfig:
        """Return the field report's pool: 2 × cores × concurrency, 200 per route, 800 in all, idle ones out after 5 s.

        The service's connection limit still caps it; pass ``max_connections=200`` where the service allows that.
        """
        return cls(pool=PoolConfig(per_route=200, total=800, idle_limit=5.0))

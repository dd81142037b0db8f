"""The frozen records behind `cosyclient.config`, one per concern, each checked when it is made."""

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
    valid = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not valid or value > high or (value <= low if above else value < low):
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
    """Raise `ConfigurationError` naming the field and the rule unless *value* is a bool."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}: must be True or False, got {value!r:.80}")


def check_verify(name: str, value: Any) -> None:
    """Raise `ConfigurationError` naming the field and the rule unless *value* is a setting of TLS verification."""
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
    """Seconds for a call for one text, before its length is added."""
    code_points_per_second: float = 20.0
    """Code points of the text that add one second to ``base``."""
    job: float = 600.0
    """Seconds for each text of a bulk call, before ``allowance`` for all audio that the call has in flight is added: it
    waits for the call's other texts and for interactive calls, and no caller waits for it alone."""
    connect: float = 5.0
    """Seconds to make a connection, TLS included."""
    first_byte: float = 5.0
    """Seconds until the first byte, and for each gap between two reads, before the audio asked for is added; twice as
    many with each retry, and more while much is in flight."""
    allowance: float = 1.0
    """Seconds added per expected second of audio: to ``first_byte`` for a batch, to ``job`` for a bulk call."""

    def __post_init__(self) -> None:
        for name in ("base", "code_points_per_second", "job", "connect", "first_byte"):
            check_number(f"timeouts.{name}", getattr(self, name), low=0, above=True)
        check_number("timeouts.allowance", self.allowance, low=0)

    def of_call(self, code_points: int) -> float:
        """Return the seconds for a call whose text has *code_points*."""
        return self.base + code_points / self.code_points_per_second

    def of_job(self, audio: float) -> float:
        """Return the seconds for a text of a bulk call that has *audio* seconds in flight."""
        return self.job + audio * self.allowance

    def of_reads(self, expected_seconds: float) -> float:
        """Return the seconds until the first byte of a batch of *expected_seconds* of audio, and for each later gap."""
        return self.first_byte + expected_seconds * self.allowance


@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    """Set the back-off schedule and the budget that all calls of a client share."""

    initial: float = 0.2
    """Seconds of the first wait at most; the ceiling doubles with each later one."""
    cap: float = 20.0
    """Seconds of any wait at most."""
    max_retry_after: float = 120.0
    """Seconds of a Retry-After beyond which it is not waited for; the error carries it instead."""
    budget: int | None = None
    """Tokens in the full budget; ``None`` is what one retry of all that may be in flight costs, at least 500."""
    transient_cost: int = 14
    """Tokens for a retry after a transient failure (botocore's figures of 2026)."""
    throttle_cost: int = 5
    """Tokens for a retry after throttling."""
    wait_for_service: float | None = None
    """Seconds from the first failure that texts of bulk calls wait while the service is down before they fail; 0 is not
    at all, ``None`` until each text's deadline, or 30 s if the service has never answered."""

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
        """Return the tokens in the full budget of a client that may have *in_flight* attempts."""
        return self.budget or max(500, in_flight * self.transient_cost)


@dataclass(frozen=True, kw_only=True)
class BreakerConfig:
    """Set when an endpoint's breaker opens and how it probes."""

    failure_rate: float = 0.5
    """Share of failures in the window at which it opens."""
    minimum_failures: int = 20
    """Failures in the window from which on it may open; all that were in flight at the first one count as one.
    Failures, not calls: of a service that fails one call in five, ten of some twenty will fail by chance every few
    hundred calls; twenty of forty hardly ever."""
    window: float = 30.0
    """Seconds that the window reaches back."""
    open_for: float = 30.0
    """Seconds it stays open before it probes, longer when the service's Retry-After says so."""
    jitter: float = 0.1
    """Share by which ``open_for`` varies, so that many clients do not probe at the same time."""
    probes: int = 5
    """Calls sent half-open; it closes when fewer than ``failure_rate`` of them fail."""

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
    """Requests that may be sent at once after a pause, before pacing spaces them."""
    slow_down: bool = True
    """Whether a refusal as too fast slows down and pauses all calls; otherwise only the refused one waits."""

    def __post_init__(self) -> None:
        check_count("pacing.burst", self.burst)
        check_flag("pacing.slow_down", self.slow_down)


@dataclass(frozen=True, kw_only=True)
class HedgeConfig:
    """Set whether texts that take unusually long are sent once more; the first reply counts."""

    extra: float = 0.0
    """Share of requests that may be sent for this alone, such as 0.02; 0 turns it off. Every hedge is billed."""

    def __post_init__(self) -> None:
        check_number("hedge.extra", self.extra, low=0, high=0.2)


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Set how many connections are kept and for how long."""

    expected_latency: float = 0.2
    """Seconds a request is expected to take; Little's Law sizes the pool by it unless ``concurrency`` is given."""
    headroom: float = 2.0
    """Factor above the average of Little's Law."""
    idle_limit: float = 4.0
    """Seconds after which an idle connection is not used again; uvicorn closes idle ones after 5."""
    max_age: float = 300.0
    """Seconds (±20 %) after which a connection is closed, so that new addresses behind a name are found."""
    per_route: int | None = None
    """Connections at most of a pool sized by 2 × cores × concurrency; ``None`` sizes it by Little's Law."""
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
    """Texts accepted and not finished; ``None`` is two fillings of everything in flight."""
    overflow: Overflow = "block"
    """What a full queue does: ``block`` until the deadline, ``reject`` at once, or ``caller_runs``: the calling thread
    sends a batch itself."""
    linger: float = 0.0
    """Seconds that a batch that is not full waits for more texts after it may be sent; with 0 an idle client sends at
    once."""
    max_audio_bytes: int = 256 << 20
    """Bytes of audio that one bulk call may have in flight or unread, as expected from its texts; one batch always
    fits."""
    single_flight: bool = True
    """Whether equal utterances in flight are sent once."""
    bulk_share: float = 0.75
    """Share of ``max_pending`` that bulk calls may use; the other texts are interactive ones."""

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
    """Set how requests are encoded, how large requests and replies may be, and how TLS is verified."""

    frames: bool = True
    """Whether audio is requested as length-prefixed frames, with JSON as the alternative."""
    gzip_requests: bool | None = None
    """Whether JSON requests are gzipped; ``None`` is as soon as the service says ``Accept-Encoding: gzip`` in a reply
    (RFC 9110, 12.5.3). A request that a service refuses for being gzipped is sent again plain at once, as are all later
    ones."""
    gzip_above_bytes: int | None = 1024
    """Bytes above which a request body may be gzipped; with ``None`` no request is."""
    max_request_bytes: int = 1 << 20
    """Bytes that the body of a batch may have (the service's limit is 1 MiB)."""
    max_batch_seconds: float = math.inf
    """Seconds of expected audio that a batch may have."""
    max_reply_bytes: int = 256 << 20
    """Bytes that a reply may have after decompression; a longer one is an error."""
    verify: bool | str | os.PathLike[str] | ssl.SSLContext = True
    """TLS verification: on, off, the path of a CA file or directory, or a context of the caller's own."""

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
    """Set how the number of attempts in flight adapts to what the service can do.

    It starts at the pool's size and shrinks on evidence only: latency that has grown with what is in flight and is
    beyond ``tolerance``, time-outs while nothing is answered, throttling.
    """

    enabled: bool = True
    """Whether the limit adapts; otherwise it is the pool's size."""
    tolerance: float = 2.0
    """Seconds that an attempt may take however much its latency has grown, or a quarter of its texts' time if less."""
    backoff: float = 0.9
    """Factor by which throttling lowers the limit, once per event."""
    step: float = 0.1
    """Share by which the limit grows again, per round of attempts that reached it; at least one attempt."""

    def __post_init__(self) -> None:
        check_flag("adaptive.enabled", self.enabled)
        check_number("adaptive.tolerance", self.tolerance, low=0, above=True)
        check_number("adaptive.backoff", self.backoff, low=0.1, high=0.99)
        check_number("adaptive.step", self.step, low=0, high=1, above=True)


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """Hold every setting that `CosyClient` has no argument for, by concern."""

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
        """Return the field report's pool: 2 × cores × concurrency, 200 per route, 800 in all, idle for 5 s at most.

        The service's connection limit still caps it; pass ``max_connections=200`` where the service allows that.
        """
        return cls(pool=PoolConfig(per_route=200, total=800, idle_limit=5.0))

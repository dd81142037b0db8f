"""The client in fake time: its real queue, policies and statistics, event by event, against a model of a service.

Events stand for the waiting threads of `Dispatcher` and `BatchCall`, so that a minute of three hundred callers takes
milliseconds and every run of a seed is the same.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import Counter, deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from cosyclient.config import ClientConfig
from cosyclient.endpoints.endpoint import Endpoint, Permit
from cosyclient.errors import (
    AttemptTimeout,
    BulkheadFull,
    CircuitOpen,
    CosyError,
    DeadlineExceeded,
    RateLimited,
    RetryBudgetSpent,
    ServiceFault,
    Throttled,
)
from cosyclient.events import Events
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.pipeline.bulk import BulkWindow
from cosyclient.pipeline.queue.batch import BatchLimits
from cosyclient.pipeline.queue.batcher import Batcher
from cosyclient.pipeline.queue.pending import PendingText
from cosyclient.policies.breaker import Breaker
from cosyclient.policies.budget import RetryBudget
from cosyclient.policies.bulkhead import Bulkhead
from cosyclient.policies.ratelimit.limiter import RateLimiter
from cosyclient.policies.retry import RetryPolicy
from cosyclient.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cosyclient.events import Listener
    from cosyclient.policies.retry import RetrySchedule
    from cosyclient.transports.base import Transport

VOICE = VoiceSettings(format="opus")


class Failure(NamedTuple):
    """Answer a request with *error*, *after* so many seconds."""

    error: CosyError
    after: float = 0.002


Answer: TypeAlias = "Sequence[float] | Failure"
"""The instant at which each text of a request is answered, or the failure of the request."""


class Service(Protocol):
    """Answer requests."""

    def answer(self, now: float, audio: Sequence[float], dice: random.Random) -> Answer:
        """Answer a request that is sent *now*, with texts of so many seconds of *audio* each."""


class Network:
    """Answer each request as a whole after ``latency(audio, dice)`` seconds, whatever else is in flight."""

    def __init__(self, latency: Callable[[Sequence[float], random.Random], float]) -> None:
        self._latency = latency

    def answer(self, now: float, audio: Sequence[float], dice: random.Random) -> Answer:
        return [now + self._latency(audio, dice)] * len(audio)


class Flaky:
    """Fail a *share* of requests at once, as one faulty node behind a load balancer does."""

    def __init__(
        self, service: Service, share: float, *, throttled: bool = False, retry_after: float | None = None
    ) -> None:
        self._service = service
        self._share = share
        self._throttled = throttled
        self._retry_after = retry_after

    def answer(self, now: float, audio: Sequence[float], dice: random.Random) -> Answer:
        if dice.random() < self._share:
            if self._throttled:
                return Failure(Throttled("HTTP 429", status=429, retry_after=self._retry_after))
            return Failure(ServiceFault("HTTP 503", status=503))
        return self._service.answer(now, audio, dice)


class Gpus:
    """Render texts on *count* GPUs, first come, first served; they do not notice that a client disconnects.

    With *whole* requests, a GPU takes a request with all its texts, and answers them together. *stall* keeps them from
    working for the first seconds; *noise* is the σ by which rendering times vary log-normally.
    """

    def __init__(
        self,
        count: int = 4,
        *,
        rtf: float = 0.06,
        rtt: float = 0.01,
        stall: float = 0.0,
        noise: float = 0.0,
        whole: bool = False,
    ) -> None:
        self._free_at = [stall] * count
        self._rtf = rtf
        self._rtt = rtt
        self._noise = noise
        self._whole = whole

    @property
    def capacity(self) -> float:
        """Return the seconds of audio rendered a second."""
        return len(self._free_at) / self._rtf

    def answer(self, now: float, audio: Sequence[float], dice: random.Random) -> Answer:
        parts = [math.fsum(audio)] if self._whole else audio
        answers = []
        for seconds in parts:
            work = seconds * self._rtf
            if self._noise:
                work *= dice.lognormvariate(-(self._noise**2) / 2, self._noise)
            end = max(now + self._rtt / 2, self._free_at[0]) + work
            heapq.heapreplace(self._free_at, end)
            answers.append(end + self._rtt / 2)
        return answers * len(audio) if self._whole else answers

    def resize(self, count: int, now: float) -> None:
        """Continue with another number of GPUs; what is queued is finished at the instants already given."""
        kept = heapq.nlargest(count, self._free_at)
        self._free_at = kept + [now] * (count - len(kept))
        heapq.heapify(self._free_at)


class Quota:
    """Refuse requests beyond *rate* a second with 429, by a bucket of *burst*."""

    def __init__(self, service: Service, rate: float, burst: float) -> None:
        self._service = service
        self._rate = rate
        self._burst = self._left = burst
        self._filled_at = 0.0

    def answer(self, now: float, audio: Sequence[float], dice: random.Random) -> Answer:
        self._left = min(self._burst, self._left + self._rate * (now - self._filled_at))
        self._filled_at = now
        if self._left < 1.0:
            return Failure(Throttled("HTTP 429", status=429))
        self._left -= 1.0
        return self._service.answer(now, audio, dice)


class ConcurrencyQuota:
    """Refuse requests beyond *count* at once with 429."""

    def __init__(self, service: Service, count: int) -> None:
        self._service = service
        self._count = count
        self._until: list[float] = []

    def answer(self, now: float, audio: Sequence[float], dice: random.Random) -> Answer:
        self._until = [until for until in self._until if until > now]
        if len(self._until) >= self._count:
            return Failure(Throttled("HTTP 429", status=429))
        answers = self._service.answer(now, audio, dice)
        if not isinstance(answers, Failure):
            self._until.append(max(answers))
        return answers


class Result(NamedTuple):
    """Hold the end of one text: its instant, the seconds since it was submitted, its audio and its error, if any."""

    at: float
    waited: float
    audio: float
    error: CosyError | None


class _Call:
    """Run a batch through its attempts, as `cosyclient.pipeline.calls.batch_call.BatchCall` does."""

    __slots__ = ("schedule", "spent", "texts", "tries")

    def __init__(self, texts: list[PendingText], schedule: RetrySchedule) -> None:
        self.texts = texts
        self.schedule = schedule
        self.spent = 0
        self.tries = 0


class Simulation:
    """Run a client against *service* in fake time; see the module's docstring.

    *rate* is in requests a second. Texts are submitted with `submit`, bulk jobs with `submit_job`, other events with
    `at`. ``results`` holds how they ended, ``requests`` counts what was sent, ``limits`` holds the limit ten times a
    second.
    """

    def __init__(
        self,
        service: Service,
        *,
        seed: int = 0,
        config: ClientConfig | None = None,
        concurrency: int = 40,
        rate: float = 1e6,
        max_batch: int = 64,
        max_retries: int = 3,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.service = service
        self.dice = random.Random(seed)
        self.clock = FakeClock(0.0)
        self.config = config = config or ClientConfig()
        self.results: list[Result] = []
        self.requests = 0
        self.limits: list[tuple[float, int]] = []
        self._max_batch = max_batch
        self._threads = concurrency
        events = Events(listeners)
        transport: Transport = None  # type: ignore[assignment] # nothing is sent
        self.endpoint = Endpoint(
            "simulated",
            transport,
            limiter=RateLimiter(rate=rate, burst=config.pacing.burst),
            bulkhead=Bulkhead(concurrency, self.clock, name="in flight", full_error=BulkheadFull),
            breaker=Breaker(config.breaker, name="simulated", uniform=self.dice.uniform),
            adaptive=config.adaptive,
            latency_floor=config.pool.expected_latency * config.pool.headroom,
            clock=self.clock,
            events=events,
            max_pause=config.retry.max_retry_after,
        )
        self.budget = RetryBudget(config.retry, in_flight=concurrency)
        self._retry = RetryPolicy(
            config.retry,
            max_retries,
            jitter=lambda ceiling: self.dice.uniform(0.0, ceiling),
            uniform=self.dice.uniform,
        )
        limits = BatchLimits(max_texts=max_batch, body_bytes=1 << 20, audio_seconds=math.inf)
        # No worker threads: `_dispatch` counts the busy workers.
        self._batcher = Batcher(limits, workers=0, clock=self.clock)
        self._workers_busy = 0
        self._waiting: deque[_Call] = deque()
        self._accepted: dict[PendingText, tuple[float, Callable[[Result], object] | None]] = {}
        self._agenda: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self._number = itertools.count()

    # For tests

    @property
    def now(self) -> float:
        """Return the fake time."""
        return self.clock.now()

    def at(self, instant: float, do: Callable[..., object], *arguments: object) -> None:
        """Call *do* at *instant*."""
        heapq.heappush(self._agenda, (instant, next(self._number), do, arguments))

    def submit(
        self, text: str, timeout: float, then: Callable[[Result], object] | None = None, *, bulk: bool = False
    ) -> PendingText:
        """Submit *text* with *timeout* seconds; call *then* with its result."""
        pending = PendingText(Utterance(text, VOICE), 100, bulk=bulk)
        pending.deadline = self.now + timeout
        self._accepted[pending] = (self.now, then)
        self._batcher.enqueue([pending])
        self.at(pending.deadline, self._expire, pending)
        self._dispatch()
        return pending

    def submit_job(self, texts: Sequence[str], timeout: float | None, done: Callable[[], object] | None = None) -> None:
        """Submit many texts as a bulk call does, and call *done* after the last."""
        permits, left = self._threads, deque(texts)
        window = BulkWindow(
            VOICE,
            texts=permits * self._max_batch,
            least=self._max_batch,
            audio_bytes=self.config.queue.max_audio_bytes,
            capacity=self._capacity,
        )
        unread = 0

        def submit_more() -> None:
            nonlocal unread
            while left and window.has_room:
                texts = [left.popleft() for _ in range(min(self._max_batch, len(left)))]
                window.add(texts)
                time_limit = timeout or self.config.timeouts.of_job(window.audio_seconds)
                batch = []
                for text in texts:
                    pending = PendingText(Utterance(text, VOICE), 100, bulk=True)
                    pending.deadline = self.now + time_limit
                    self._accepted[pending] = (self.now, partial(read, text))
                    self.at(pending.deadline, self._expire, pending)
                    batch.append(pending)
                unread += len(batch)
                self._batcher.enqueue(batch)
            self._dispatch()

        def read(text: str, _: Result) -> None:
            nonlocal unread
            unread -= 1
            window.remove(text)
            # The job's thread reads all that are ready before it submits more.
            if left:
                self.at(self.now, submit_more)
            elif not unread and done is not None:
                done()

        submit_more()

    def run(self, until: float = math.inf) -> None:
        """Run all events, or those before *until*."""
        sampled_at = 0.0
        while self._agenda and self._agenda[0][0] < until:
            instant, _, do, arguments = heapq.heappop(self._agenda)
            while sampled_at < instant and math.isfinite(until):
                self.limits.append((sampled_at, self.endpoint.bulkhead.limit))
                sampled_at += 0.1
            self.clock.advance(max(0.0, instant - self.now))
            do(*arguments)
        if math.isfinite(until):
            self.clock.advance(max(0.0, until - self.now))

    @property
    def successes(self) -> list[Result]:
        """Return the results that are speech."""
        return [result for result in self.results if result.error is None]

    def failures(self) -> Counter[str]:
        """Return how many texts failed, by error, with ``unsent`` where nothing was sent for them."""
        return Counter(
            type(result.error).__name__ + ("" if result.error.sent else " unsent")
            for result in self.results
            if result.error is not None
        )

    def goodput(self, since: float, until: float) -> float:
        """Return the seconds of audio a second that came in time between two instants."""
        return math.fsum(result.audio for result in self.successes if since <= result.at < until) / (until - since)

    @property
    def done_at(self) -> float:
        """Return the instant at which the last text ended."""
        return max((result.at for result in self.results), default=0.0)

    # The client

    def _capacity(self) -> tuple[float, float]:
        fillings = 2.0 * self.endpoint.bulkhead.limit
        return fillings * self._max_batch, fillings * self.endpoint.estimate().max_audio

    def _end(self, pending: PendingText, error: CosyError | None) -> None:
        if pending.done:
            return
        pending.done = True
        began, then = self._accepted.pop(pending)
        self._batcher.discard(pending)
        result = Result(self.now, self.now - began, pending.audio_seconds, error)
        self.results.append(result)
        if then is not None:
            # As an event of its own: a caller that is rejected at once may submit again at once.
            self.at(self.now, then, result)

    def _expire(self, pending: PendingText) -> None:
        self._end(pending, DeadlineExceeded("no speech before the deadline", sent=not pending.queued))

    def _dispatch(self) -> None:
        """Acquire permits for workers, as long as there is work for them and a permit is free."""
        while self._waiting or (self._batcher.queued and self._workers_busy < self._threads):
            try:
                self.endpoint.breaker.check(self.now)
            except CircuitOpen as error:
                self._reject_all(error)
                return
            permit = Permit(self.endpoint)
            if not self.endpoint.bulkhead.try_acquire(permit):
                return
            if self._waiting:
                call = self._waiting.popleft()
                latest = max(pending.deadline for pending in call.texts)
            else:
                call = None
                self._workers_busy += 1
                head = self._batcher.next_deadline()
                assert head is not None
                latest = head
            try:
                permit._reservation = self.endpoint.limiter.reserve(self.now, max_wait=latest - self.now)
            except RateLimited as error:
                self._reject(call, latest, permit, error)
                continue
            self._send_when_due(call, latest, permit)

    def _send_when_due(self, call: _Call | None, latest: float, permit: Permit) -> None:
        """Send once the limiter allows it: a call's next attempt, or else a batch of the texts queued."""
        assert permit._reservation is not None
        if (wait := permit._reservation.delay(self.now)) > 0:
            self.at(self.now + wait, self._recheck, call, latest, permit)
            return
        try:
            self.endpoint.breaker.acquire(self.now, permit._breaker_permit)
        except CircuitOpen as error:
            self._reject(call, latest, permit, error)
            self._reject_all(error)
            return
        if call is None:
            batch = self._batcher.seal(self.endpoint.estimate(), worker=False)
            if batch is None:
                permit.cancel()
                self._workers_busy -= 1
                return
            assert batch.texts, "a batch of nothing"
            call = _Call(batch.texts, self._retry.schedule())
        self._attempt(call, permit)

    def _recheck(self, call: _Call | None, latest: float, permit: Permit) -> None:
        reservation = permit._reservation
        assert reservation is not None
        try:
            permit._reservation = self.endpoint.limiter.recheck(reservation, self.now, max_wait=latest - self.now)
        except RateLimited as error:
            self._reject(call, latest, permit, error)
            self._dispatch()
            return
        self._send_when_due(call, latest, permit)

    def _reject(self, call: _Call | None, before: float, permit: Permit, error: CosyError) -> None:
        """Cancel the permit and fail the call, or all queued texts with a deadline *before* that instant."""
        permit.cancel()
        if call is not None:
            self._finish(call, error)
            return
        self._workers_busy -= 1
        for pending in self._batcher.pop_due(before):
            self._end(pending, error)

    def _reject_all(self, error: CosyError) -> None:
        for pending in self._batcher.pop_due(math.inf):
            self._end(pending, error)
        while self._waiting:
            self._finish(self._waiting.popleft(), error)

    def _attempt(self, call: _Call, permit: Permit) -> None:
        texts = [pending for pending in call.texts if not pending.done]
        if not texts:
            permit.cancel()
            self._workers_busy -= 1
            return
        call.texts, now = texts, self.now
        until = max(pending.deadline for pending in texts)
        audio = math.fsum(pending.audio_seconds for pending in texts)
        time_limit = min(pending.deadline - pending.queued_at for pending in texts)
        permit.start(now, retry=call.tries > 0, audio=audio, time_limit=time_limit)
        call.tries += 1
        self.requests += 1
        answer = self.service.answer(now, [pending.audio_seconds for pending in texts], self.dice)
        if isinstance(answer, Failure):
            end = now + answer.after
            self.at(min(end, until), self._end_attempt, call, permit, now, answer.error if end <= until else None, 0.0)
            return
        read_timeout = max(self.config.timeouts.of_reads(audio) * 2.0 ** (call.tries - 1), permit.read_timeout)
        returned, last_at, error = 0.0, now, None
        for instant, pending in sorted(zip(answer, texts, strict=True), key=lambda pair: pair[0]):
            if instant > min(until, last_at + read_timeout):
                until = min(until, last_at + read_timeout)
                error = AttemptTimeout("nothing came in time") if until == last_at + read_timeout else None
                break
            last_at, returned = instant, returned + pending.audio_seconds
            self.at(instant, self._end, pending, None)
        self.at(min(max(answer), until), self._end_attempt, call, permit, now, error, returned)

    def _end_attempt(
        self, call: _Call, permit: Permit, started: float, error: CosyError | None, returned: float
    ) -> None:
        late = [pending for pending in call.texts if not pending.done]
        audio = math.fsum(pending.audio_seconds for pending in call.texts)
        if error is None and returned < audio - 1e-6:
            silent = not returned and self.endpoint.silent_since(started)
            fair = self.now - started >= max(self.config.timeouts.first_byte, permit.expected)
            error = DeadlineExceeded("the deadline passed", sent=True, endpoint_fault=fair and silent)
        permit.finish(error, self.now, returned=returned)
        if error is None:
            self.budget.deposit(call.spent)
            self._workers_busy -= 1
        else:
            self._retry_later(call, late, error)
        self._dispatch()

    def _retry_later(self, call: _Call, left: list[PendingText], error: CosyError) -> None:
        wait = None
        if left:
            latest = max(pending.deadline for pending in left)
            wait = call.schedule.next_wait(error, remaining=latest - self.now)
        if wait is None:
            self._finish(call, error)
            return
        cost = self.budget.withdraw(throttled=error.throttled)
        if not cost:
            self._finish(call, RetryBudgetSpent("not tried again, the retry budget is spent", sent=error.sent))
            return
        call.spent += cost
        self.at(self.now + wait, self._ready, call)

    def _ready(self, call: _Call) -> None:
        self._waiting.append(call)
        self._dispatch()

    def _finish(self, call: _Call, error: CosyError) -> None:
        self._workers_busy -= 1
        for pending in call.texts:
            self._end(pending, error)

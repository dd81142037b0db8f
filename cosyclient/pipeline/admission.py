"""The front admission: a text is checked, given a place and a deadline, and its caller told what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cosyclient.clock import Deadline
from cosyclient.errors import ClientClosed, ConfigurationError, CosyError, DeadlineExceeded
from cosyclient.models import Speech, Utterance
from cosyclient.pipeline.flow_control import FlowController
from cosyclient.pipeline.queue.batch import BULK, PendingText
from cosyclient.pipeline.queue.waiters import Waiter
from cosyclient.protocols.capabilities import check_length
from cosyclient.protocols.registry import check
from cosyclient.util.timers import DeadlineTimer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableSequence, Sequence

    from cosyclient.clock import Clock
    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.models import VoiceSettings
    from cosyclient.pipeline.calls.dispatcher import Dispatcher
    from cosyclient.pipeline.outage import Outage
    from cosyclient.pipeline.queue.batcher import Batcher
    from cosyclient.pipeline.queue.coalescer import Coalescer
    from cosyclient.pipeline.queue.completion import Completer
    from cosyclient.pipeline.queue.waiters import SpeechFuture
    from cosyclient.protocols.base import WireProtocol


class CallOptions(NamedTuple):
    """Hold what a caller asks for beside the text."""

    settings: VoiceSettings
    timeout: float | None
    """Seconds until the call's deadline; ``None`` leaves them to the configuration."""
    bulk: bool
    """Whether it takes what interactive calls leave."""
    started_at: float | None = None
    """When the call was made (monotonic seconds), which its deadline counts from; ``None`` is now."""

    def deadline(self, clock: Clock, span: float) -> Deadline:
        """Return the deadline of a call that has *span* seconds."""
        return Deadline((clock.now() if self.started_at is None else self.started_at) + span, clock)


class Admission:
    """Accept texts and see to it that each caller hears of his by his deadline.

    Built before the rooms it sends texts to, which report to it: `open` brings them in.
    """

    _completer: Completer
    _batcher: Batcher
    _dispatcher: Dispatcher
    _outage: Outage

    def __init__(self, settings: ResolvedConfig, protocol: WireProtocol, coalescer: Coalescer, clock: Clock) -> None:
        self._settings = settings
        self._protocol = protocol
        self._coalescer = coalescer
        self._clock = clock
        self.closing = False
        self.flow = FlowController(settings, clock, carry=self._run_waiting_batch, may_not_wait=self.on_own_thread)
        self.timer: DeadlineTimer[Waiter] = DeadlineTimer(clock, self._expire)
        # The last settings found fit for the protocol: most calls share them.
        self._checked_settings: VoiceSettings | None = None

    def open(self, completer: Completer, batcher: Batcher, dispatcher: Dispatcher, outage: Outage) -> None:
        """Begin to accept."""
        self._completer, self._batcher, self._dispatcher, self._outage = completer, batcher, dispatcher, outage

    def run(self, text: str, options: CallOptions) -> Speech | CosyError:
        """Return what becomes of *text*, on a thread that waits for it anyway and so may carry it itself."""
        waiter = self._waiter(text, options)
        try:
            pending = self._accept_counted(waiter, text, options)
            if pending is not None and not self._dispatcher.run_inline(pending, waiter.deadline.at):
                self._dispatcher.dispatch((pending,))
        except BaseException:
            self._undo_one(waiter)
            raise
        return self.result_of(waiter)

    def result_of(self, waiter: Waiter) -> Speech | CosyError:
        """Wait for what becomes of *waiter*, at most until its deadline, which is an error then."""
        try:
            there = waiter.wait()
        except BaseException:
            self._undo_one(waiter)
            raise
        if there and waiter.result is not None:
            return waiter.result
        overdue = self.deadline_error(waiter)
        self.abandon(waiter)
        return overdue

    def submit(self, text: str, options: CallOptions, future: SpeechFuture | None = None) -> Waiter:
        """Accept *text* and send it on its way; raises what it is refused for at once."""
        waiter = self._waiter(text, options, future=future)
        try:
            pending = self._accept_counted(waiter, text, options)
            if pending is not None:
                self._dispatcher.dispatch((pending,))
            if future is not None:
                self.start_timer(waiter)
        except BaseException:
            self._undo_one(waiter)
            raise
        return waiter

    def submit_many(
        self,
        texts: Sequence[str],
        options: CallOptions,
        *,
        audio: float,
        into: MutableSequence[Waiter],
        notify: Callable[[Waiter], None] | None = None,
    ) -> None:
        """Accept *texts* together, so that they leave in full batches; a refused one's waiter holds the error.

        *audio* is how many seconds of it their job has under way by now: each may have to wait for all of that. Each
        text's waiter is put *into* a sequence before anything is taken for it: whoever is interrupted here is to
        `take_back` those.
        """
        accepted: list[PendingText] = []
        for text in texts:
            waiter = self._waiter(text, options, job=audio, notify=notify)
            into += [waiter]
            try:
                pending = self._accept(waiter, text, options, accepted)
            except CosyError as error:
                self._undo_one(waiter)
                self._completer.count_error(error, accepted=False)
                waiter.resolve(error)
                continue
            if pending is not None:
                accepted.append(pending)
        if accepted:
            self._dispatcher.dispatch(accepted)

    def check_open(self) -> None:
        """Raise if nothing new is accepted any more."""
        if self.closing:
            raise ClientClosed("the client is closed; make a new one")

    def check_may_block(self) -> None:
        """Raise if the calling thread is one of ours: a worker could wait for itself, the timer delays others."""
        if self.on_own_thread():
            raise ConfigurationError("on_done: must not call what blocks on the client's own thread; use submit there")

    def on_own_thread(self) -> bool:
        """Return whether the calling thread is one of ours, which must not wait for the others."""
        return self._dispatcher.on_worker_thread or self.timer.on_own_thread or self._outage.on_timer

    def start_timer(self, waiter: Waiter) -> None:
        """Make sure *waiter* resolves at its deadline though no thread waits for it."""
        if not waiter.done:
            self.timer.add(waiter)

    def abandon(self, waiter: Waiter) -> bool:
        """Take *waiter* back and return whether it was still pending; if so, nobody else will resolve it.

        A text nobody wants any more is not sent if it still waits, and broken off if it is under way.
        """
        unresolved, pending = self._coalescer.abandon(waiter)
        if unresolved:
            self.timer.discard(waiter)
        if pending is not None:
            self.flow.release((pending,))
            self._batcher.discard(pending)
            for call in pending.calls:
                call.cancel_if_unwanted()
        return unresolved

    def undo(self, waiters: Iterable[Waiter]) -> None:
        """Undo what was done for those of *waiters* that have not been told yet; interrupted, call it once more."""
        for waiter in waiters:
            if not waiter.done:
                self._undo(waiter)

    def _undo_one(self, waiter: Waiter) -> None:
        """Undo what was done for *waiter* so far, also if a second interrupt comes amid that; others keep theirs."""
        try:
            self._undo(waiter)
        except BaseException:
            self._undo(waiter)
            raise

    def _undo(self, waiter: Waiter) -> None:
        self.abandon(waiter)
        pending = waiter.pending_text
        if pending is not None and not (pending.done or pending.queued or pending.calls or pending.outage_error):
            # Others have joined; they are not interrupted.
            self._dispatcher.dispatch((pending,))
        self._dispatcher.start_workers()

    def _waiter(
        self,
        text: str,
        options: CallOptions,
        *,
        job: float | None = None,
        future: SpeechFuture | None = None,
        notify: Callable[[Waiter], None] | None = None,
    ) -> Waiter:
        timeouts = self._settings.config.timeouts
        span = options.timeout or self._settings.timeout
        # What is no text is refused later, in words.
        length = len(text) if isinstance(text, str) else 0
        span = span or (timeouts.of_call(length) if job is None else timeouts.of_job(job))
        return Waiter(options.deadline(self._clock, span), bulk=options.bulk, future=future, notify=notify)

    def _accept_counted(self, waiter: Waiter, text: str, options: CallOptions) -> PendingText | None:
        try:
            return self._accept(waiter, text, options, [])
        except CosyError as error:
            self._completer.count_error(error, accepted=False)
            raise

    def _accept(self, waiter: Waiter, text: str, options: CallOptions, held: list[PendingText]) -> PendingText | None:
        """Let *waiter* in; return the pending to be sent for it, or None where it shares one. If this raises: undo."""
        utterance = self.make_utterance(text, options.settings)
        self.check_open()
        joined = self._coalescer.join(utterance, waiter)
        if joined is None:
            pending = PendingText(utterance, self._protocol.weigh(utterance), bulk=options.bulk)
            # Before its place is taken, so that whoever undoes this finds what to give back.
            waiter.pending_text = pending
            self.flow.acquire(pending, waiter.deadline, lambda: self._dispatch_held(held))
            try:
                joined = self._coalescer.start(pending, waiter)
                if joined is pending:
                    return pending
                self.flow.release((pending,))
            except BaseException:
                self.flow.release((pending,))
                raise
        if not options.bulk:
            if joined.lane == BULK:
                self._batcher.promote(joined)
            if joined.outage_error is not None:
                self._outage.release(joined)
        return None

    def make_utterance(self, text: str, settings: VoiceSettings) -> Utterance:
        """Return the utterance if the protocol can serve it; nothing is sent otherwise."""
        utterance = Utterance(text, settings)
        self.check_settings(settings)
        check_length(self._protocol.name, self._protocol.capabilities, utterance)
        return utterance

    def check_settings(self, settings: VoiceSettings) -> None:
        """Raise the `BadUtterance` of *settings* that the protocol cannot serve."""
        if settings is not self._checked_settings:
            check(self._protocol, settings)
            self._checked_settings = settings

    def _run_waiting_batch(self) -> bool:
        """Carry a waiting batch on the calling thread, if one waits."""
        if not self._batcher.queued:
            return False
        self._dispatcher.run_on_caller()
        return True

    def _dispatch_held(self, held: list[PendingText]) -> None:
        # What is held back for a fuller batch leaves before anybody waits: its places are what he waits for.
        if held:
            self._dispatcher.dispatch(held)
            held.clear()

    def _expire(self, waiter: Waiter) -> None:
        error = self.deadline_error(waiter)
        if self.abandon(waiter):
            waiter.resolve(error)

    def deadline_error(self, waiter: Waiter) -> DeadlineExceeded:
        """Return the error of a waiter whose deadline passed first, with the attempts made until then."""
        pending = waiter.pending_text
        queued = pending is not None and pending.queued and not pending.hedged
        attempts = () if pending is None else tuple(pending.attempts)
        held = None if pending is None else pending.outage_error
        where = "waiting to be sent" if queued else f"under way, {len(attempts)} attempts had failed before"
        if held is not None:
            where = f"waiting for the service to recover: {held}"
        sent = not queued if held is None else held.sent
        error = DeadlineExceeded(f"no speech before the deadline; the text was {where}", sent=sent)
        error.__cause__ = held or (attempts[-1].error if attempts else None)
        return error.for_caller(attempts)

    def __repr__(self) -> str:
        return f"<Admission {'closed' if self.closing else 'open'} {self.flow!r}>"

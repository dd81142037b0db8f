"""Admission: a text is validated, gets a deadline and a permit to be pending, and is sent on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cosyclient.clock import Deadline
from cosyclient.errors import ClientClosed, ConfigurationError, CosyError
from cosyclient.models import Speech, Utterance
from cosyclient.pipeline.queue.pending import BULK, PendingText, Waiter
from cosyclient.protocols.base import check_length
from cosyclient.protocols.registry import check_supported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableSequence, Sequence

    from cosyclient.clock import Clock
    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.models import VoiceSettings
    from cosyclient.pipeline.calls.dispatcher import Dispatcher
    from cosyclient.pipeline.queue.batcher import Batcher
    from cosyclient.pipeline.queue.coalescer import Coalescer
    from cosyclient.pipeline.queue.completion import Completer
    from cosyclient.pipeline.queue.flow_control import FlowController, Submission
    from cosyclient.pipeline.queue.pending import SpeechFuture
    from cosyclient.protocols.base import WireProtocol


class CallOptions(NamedTuple):
    """Hold what a caller asks for beside the text; made once for each call."""

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
    """Accept texts and return what becomes of them, to each caller by its own deadline.

    Every method that accepts a text undoes all of it if it is interrupted: permits, places in the queue, waiters.
    """

    def __init__(
        self,
        settings: ResolvedConfig,
        protocol: WireProtocol,
        *,
        coalescer: Coalescer,
        flow: FlowController,
        batcher: Batcher,
        completer: Completer,
        dispatcher: Dispatcher,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._protocol = protocol
        self._coalescer = coalescer
        self._flow = flow
        self._batcher = batcher
        self._completer = completer
        self._dispatcher = dispatcher
        self._clock = clock
        self.closed = False
        """Set when the client closes: nothing is accepted any more."""
        # The last settings that the protocol can serve: most calls share them.
        self._checked_settings: VoiceSettings | None = None
        self._alone: Final = _Held(self)
        """The submission of a lone text: nothing is held back."""

    def run(self, text: str, options: CallOptions) -> Speech | CosyError:
        """Return what becomes of *text*; the calling thread waits for it and may send it itself."""
        waiter = self._waiter(text, options)
        try:
            pending = self._accept(waiter, text, options)
            if pending is not None and not self._dispatcher.run_inline(pending, waiter.deadline.at):
                self._dispatcher.dispatch((pending,))
        except BaseException:
            self._undo_one(waiter)
            raise
        return self.result_of(waiter)

    def result_of(self, waiter: Waiter) -> Speech | CosyError:
        """Wait for the result of *waiter*, at most until its deadline, whose error it is then."""
        try:
            there = waiter.wait()
        except BaseException:
            self._undo_one(waiter)
            raise
        if there and waiter.result is not None:
            return waiter.result
        error = self._completer.deadline_error(waiter)
        self._completer.abandon(waiter)
        return error

    def submit(self, text: str, options: CallOptions, future: SpeechFuture | None = None) -> Waiter:
        """Accept *text* and send it on its way; raises at once what it is rejected with."""
        waiter = self._waiter(text, options, future)
        try:
            pending = self._accept(waiter, text, options)
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
        """Accept *texts* together, so that they are sent in full batches; a rejected one's waiter holds its error.

        *audio* is how many seconds of audio their job has pending by now: each text may have to wait for all of it.
        Each text's waiter is put *into* a sequence before anything is taken for it; a caller that is interrupted here
        must `undo` those.
        """
        span = options.timeout or self._settings.timeout or self._settings.config.timeouts.of_job(audio)
        deadline = options.deadline(self._clock, span)
        fresh: list[tuple[PendingText, Waiter]] = []
        for text in texts:
            waiter = Waiter(deadline, bulk=options.bulk, notify=notify)
            into += [waiter]
            try:
                pending = self._prepare(waiter, text, options)
            except CosyError as error:
                self._reject(waiter, error)
                continue
            if pending is not None:
                fresh.append((pending, waiter))
        if not self._start_all(fresh):
            held = _Held(self)
            for pending, waiter in fresh:
                try:
                    # An equal one of them may have started by now: then there is no need of a permit.
                    if (joined := self._coalescer.join(pending.utterance, waiter)) is not None:
                        self._promote(joined, waiter)
                    elif self._start(pending, waiter, held):
                        held.texts.append(pending)
                except CosyError as error:
                    self._reject(waiter, error)
            held.before_waiting()

    def check_open(self) -> None:
        """Raise `ClientClosed` if nothing is accepted any more."""
        if self.closed:
            raise ClientClosed("the client is closed; make a new one")

    def check_may_block(self) -> None:
        """Raise if the calling thread is the client's own: a worker could wait for itself, the timer delays others."""
        if self.on_own_thread():
            raise ConfigurationError("on_done: must not call what blocks on the client's own thread; use submit there")

    def on_own_thread(self) -> bool:
        """Return whether the calling thread is one of the client's, which must not wait for the others."""
        return self._dispatcher.on_own_thread or self._completer.timer.on_own_thread

    def start_timer(self, waiter: Waiter) -> None:
        """Have *waiter* resolved at its deadline though no thread waits for it."""
        self._completer.start_timer(waiter)

    def abandon(self, waiter: Waiter) -> bool:
        """Take *waiter* off its text; return whether it was unresolved, so that nobody else will resolve it."""
        return self._completer.abandon(waiter)

    def undo(self, waiters: Iterable[Waiter]) -> None:
        """Undo what was done for those of *waiters* that are not resolved; if interrupted, call it once more."""
        for waiter in waiters:
            if not waiter.done:
                self._undo(waiter)

    def _undo_one(self, waiter: Waiter) -> None:
        """Undo what was done for *waiter* so far, also if a second interrupt comes meanwhile."""
        try:
            self._undo(waiter)
        except BaseException:
            self._undo(waiter)
            raise

    def _undo(self, waiter: Waiter) -> None:
        self._completer.abandon(waiter)
        pending = waiter.pending_text
        if pending is not None and not (pending.done or pending.queued or pending.calls or pending.outage_error):
            # Other waiters have joined the text; they are not interrupted.
            self._dispatcher.dispatch((pending,))
        self._dispatcher.start_workers()

    def _waiter(
        self,
        text: str,
        options: CallOptions,
        future: SpeechFuture | None = None,
    ) -> Waiter:
        span = options.timeout or self._settings.timeout
        if span is None:
            # What is no text is rejected later, with an error that says so.
            span = self._settings.config.timeouts.of_call(len(text) if isinstance(text, str) else 0)
        return Waiter(options.deadline(self._clock, span), bulk=options.bulk, future=future)

    def _accept(self, waiter: Waiter, text: str, options: CallOptions) -> PendingText | None:
        """Accept *text* for *waiter*; return what is to be sent, or None where it shares a pending text.

        Whatever this raises, the caller must undo it.
        """
        try:
            pending = self._prepare(waiter, text, options)
            return pending if pending is not None and self._start(pending, waiter, self._alone) else None
        except CosyError as error:
            self._completer.count_error(error, accepted=False)
            raise

    def _prepare(self, waiter: Waiter, text: str, options: CallOptions) -> PendingText | None:
        """Return *text* as it is to be started for *waiter*, or None where that shares a pending text already."""
        utterance = self.make_utterance(text, options.settings)
        self.check_open()
        joined = self._coalescer.join(utterance, waiter)
        if joined is not None:
            self._promote(joined, waiter)
            return None
        pending = PendingText(utterance, self._protocol.weigh(utterance), bulk=options.bulk)
        # Set before its permit is taken, so that the code that undoes this finds what to give back.
        waiter.pending_text = pending
        return pending

    def _start(self, pending: PendingText, waiter: Waiter, submission: Submission) -> bool:
        """Start *pending* with a permit; return whether it is to be sent, or an equal one has started meanwhile."""
        self._flow.acquire(pending, waiter.deadline, submission)
        try:
            joined = self._coalescer.start(pending, waiter)
            if joined is pending:
                return True
            self._flow.release((pending,))
        except BaseException:  # an interrupt: the permit belongs to nobody yet
            self._flow.release((pending,))
            raise
        self._promote(joined, waiter)
        return False

    def _start_all(self, fresh: Sequence[tuple[PendingText, Waiter]]) -> bool:
        """Start and send all of *fresh* if there are permits for all, taking each lock once; return whether it did."""
        texts = [pending for pending, _ in fresh]
        try:
            if not self._flow.try_acquire_all(texts):
                return False
            self._coalescer.start_all(fresh)
            self._release_joined(texts)
        except BaseException:  # an interrupt: those that have started are undone by the caller
            self._release_joined(texts)
            raise
        started = []
        for pending, waiter in fresh:
            if pending.waiters:
                started.append(pending)
            elif (joined := waiter.pending_text) is not None:
                self._promote(joined, waiter)
        self._dispatcher.dispatch(started)
        return True

    def _release_joined(self, texts: Sequence[PendingText]) -> None:
        """Give back the permits of those of *texts* that nobody waits for: their waiters have joined equal ones."""
        self._flow.release([pending for pending in texts if not pending.waiters])

    def _promote(self, joined: PendingText, waiter: Waiter) -> None:
        """Move *joined*, which *waiter* shares now, to where an interactive waiter expects it."""
        if waiter.bulk:
            return
        if joined.lane == BULK:
            self._batcher.promote(joined)
        if joined.outage_error is not None:
            self._dispatcher.outage.release(joined)

    def _reject(self, waiter: Waiter, error: CosyError) -> None:
        self._undo_one(waiter)
        self._completer.count_error(error, accepted=False)
        waiter.resolve(error)

    def make_utterance(self, text: str, settings: VoiceSettings) -> Utterance:
        """Return the utterance if the protocol can serve it; raises `BadUtterance`, and nothing is sent."""
        utterance = Utterance(text, settings)
        self.check_settings(settings)
        check_length(self._protocol.name, self._protocol.capabilities, utterance)
        return utterance

    def check_settings(self, settings: VoiceSettings) -> None:
        """Raise the `BadUtterance` of *settings* that the protocol cannot serve."""
        if settings is not self._checked_settings:
            check_supported(self._protocol, settings)
            self._checked_settings = settings

    def __repr__(self) -> str:
        return f"<Admission {'closed' if self.closed else 'open'} {self._flow!r}>"


class _Held:
    """Hold back the accepted texts of one bulk submission for a fuller batch; see `Submission`."""

    __slots__ = ("_admission", "texts")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.texts: list[PendingText] = []

    def before_waiting(self) -> None:
        """Send the texts that were held back."""
        if self.texts:
            self._admission._dispatcher.dispatch(self.texts)
            self.texts.clear()

    def may_wait(self) -> bool:
        """Return whether the calling thread may wait; a worker would wait for itself."""
        return not self._admission.on_own_thread()

    def run_waiting_batch(self) -> bool:
        """Send one waiting batch on the calling thread; return whether one was waiting."""
        if not self._admission._batcher.queued:
            return False
        self._admission._dispatcher.run_on_caller()
        return True

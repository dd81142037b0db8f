"""The callers: threads that make random calls, and can be interrupted at any point of a call."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from benchmarks.suites.chaos.records import SHORT_TIMEOUT, TextRecord
from cosyclient import CosyError, PartialFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.suites.chaos.protocols import ProtocolCase
    from cosyclient import CosyClient

LONG_TIMEOUT: Final = 15.0
"""Timeout of a text whose deadline must not explain anything."""
_SENTENCES: Final = "你好，世界。今天天气很好。 The quick brown fox jumps over the lazy dog. One, two, three. "
_PACE: Final = 100.0
"""Calls a second of a caller whose calls end at once."""
_GRACE: Final = 1.0
"""Seconds that an interrupt may take to arrive after the call it was sent into has returned."""


class Interrupt(KeyboardInterrupt):
    """An interrupt that this benchmark sent; any other KeyboardInterrupt is a real Ctrl-C."""


@dataclass(eq=False)
class CallRecord:
    """Hold the texts of one call, and how it is made."""

    texts: list[TextRecord]
    options: dict[str, Any]
    rng: random.Random

    def end_open(self, end: Callable[[TextRecord], object]) -> None:
        """Apply *end* to the texts that have not ended and have no future that will end them."""
        for record in self.texts:
            if not record.ending and record.future is None:
                end(record)


def _synthesize(view: CosyClient, call: CallRecord) -> None:
    (record,) = call.texts
    record.note_audio(view.synthesize(record.text, **call.options).audio)


def _submit(view: CosyClient, call: CallRecord) -> None:
    for record in call.texts:
        record.future = view.submit(record.text, on_done=record.on_done, **call.options)
        if call.rng.random() < 0.3:
            time.sleep(call.rng.uniform(0.0, 0.05))
            record.cancelling = True
            record.future.cancel()
    if call.rng.random() < 0.7:
        for record in call.texts:
            assert record.future is not None
            with suppress(CosyError, CancelledError):
                record.future.result()


def _synthesize_many(view: CosyClient, call: CallRecord) -> None:
    rng, texts = call.rng, [record.text for record in call.texts]
    source = iter(texts) if rng.random() < 0.5 else texts
    outcomes = view.synthesize_many(source, ordered=rng.random() < 0.5, **call.options)
    enough = rng.randint(1, len(texts)) if rng.random() < 0.2 else len(texts) + 1
    for outcome in outcomes:
        call.texts[outcome.index].note_outcome(outcome)
        enough -= 1
        if not enough:
            outcomes.close()
            call.end_open(lambda record: record.note_left("cancelled"))
            return


def _batch_synth(view: CosyClient, call: CallRecord) -> None:
    try:
        audios = view.batch_synth([record.text for record in call.texts], **call.options)
    except PartialFailure as failure:
        for outcome in failure.outcomes:
            call.texts[outcome.index].note_outcome(outcome)
        return
    for record, audio in zip(call.texts, audios, strict=True):
        record.note_audio(audio)


def _stream(view: CosyClient, call: CallRecord) -> None:
    (record,) = call.texts
    with view.stream(record.text, **call.options) as stream:
        if call.rng.random() < 0.3:
            next(iter(stream))
            record.note_left("cancelled")
            return
        record.note_audio(stream.speech().audio)


def _stream_text(view: CosyClient, call: CallRecord) -> None:
    (record,) = call.texts

    def pieces() -> Iterator[str]:
        for at in range(0, len(record.text), 24):
            yield record.text[at : at + 24]

    with view.stream_text(pieces(), **call.options) as stream:
        record.note_audio(stream.speech().audio)


CALLS: Final[Mapping[str, tuple[Callable[[CosyClient, CallRecord], None], int, float]]] = {
    "synthesize": (_synthesize, 1, 5.0),
    "submit": (_submit, 6, 3.0),
    "synthesize_many": (_synthesize_many, 40, 2.0),
    "batch_synth": (_batch_synth, 20, 1.0),
    "stream": (_stream, 1, 2.0),
    "stream_text": (_stream_text, 1, 1.0),
}
"""Each kind of call: its function, the most texts it gets, and its weight when one is chosen."""


@dataclass(eq=False)
class Caller:
    """Make random calls until stopped, and count the interrupts that arrive.

    An interrupter sets `interrupting`, checks that the caller is `in_call` and has caught all it was sent, counts the
    interrupt in `sent`, sends it, and clears `interrupting`. So none arrives where a caller cannot catch it.
    """

    name: str
    views: Mapping[ProtocolCase, CosyClient]
    """The view to call for each protocol; whatever uploads a voice replaces it."""
    seed: str
    calls: list[CallRecord] = field(default_factory=list)
    closing: bool = False
    """Whether the client will be closed while it is called."""
    running: bool = True
    stopping: bool = False
    idle: bool = False
    in_call: bool = False
    interrupting: bool = False
    sent: int = 0
    caught: int = 0
    swallowed: int = 0
    """Interrupts that were sent and never arrived."""
    current: str = ""
    before_turn: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._numbers = self.ident = 0
        self.thread = threading.Thread(target=self.run, name=self.name, daemon=True)

    def run(self) -> None:
        """Call until `stopping`."""
        self.ident = threading.get_ident()
        while not self.stopping:
            try:
                self.in_call = True
                self._turn()
                self.in_call = False
                self._await_interrupt()
            except Interrupt:
                self.in_call = False
                self.caught += 1
                if self.calls:
                    self.calls[-1].end_open(lambda record: record.note_left("interrupted"))
        self.running = False

    def _turn(self) -> None:
        if self.before_turn is not None:
            self.before_turn()
        if self.idle:
            time.sleep(0.05)
            return
        self.make_call(self._rng.choice(list(self.views)))
        # After a failure a little later, as users do.
        time.sleep(self._rng.expovariate(_PACE) if self.calls[-1].texts[-1].ending == "succeeded" else 0.1)

    def make_call(self, case: ProtocolCase) -> None:
        """Make one random call to the client of *case* and record how its texts end."""
        call, kind = self._draw(case)
        self.calls.append(call)
        self.current = f"{call.texts[0].call} of {case.protocol}"
        try:
            CALLS[kind][0](self.views[case], call)
        except CosyError as error:
            failure = error
            call.end_open(lambda record: record.note_error(failure))
        self.current = ""
        self.stopping |= any(record.error == "ClientClosed" for record in call.texts)

    def _draw(self, case: ProtocolCase) -> tuple[CallRecord, str]:
        rng = self._rng
        supported = {"stream": case.streams, "stream_text": case.texts}
        kinds = [kind for kind in CALLS if supported.get(kind, True)]
        kind = rng.choices(kinds, [CALLS[each][2] for each in kinds])[0]
        timeout = rng.uniform(0.02, SHORT_TIMEOUT) if rng.random() < 0.1 else LONG_TIMEOUT
        options: dict[str, Any] = {"timeout": timeout}
        if rng.random() < 0.2:
            options["priority"] = rng.choice(("interactive", "bulk"))
        if kind in ("stream", "stream_text"):
            options.pop("priority", None)
        texts = [
            TextRecord(protocol=case.protocol, text=self._text(case), call=kind, timeout=timeout, closing=self.closing)
            for _ in range(rng.randint(1, CALLS[kind][1]))
        ]
        return CallRecord(texts, options, rng), kind

    def _text(self, case: ProtocolCase) -> str:
        self._numbers += 1
        if self._rng.random() < 0.05:
            return f"shared {self._rng.randrange(5)}"  # several callers may ask for it at once
        length = int(2 ** self._rng.uniform(0.0, 8.0))
        sentences = (_SENTENCES * (length // len(_SENTENCES) + 1))[:length].rstrip()
        return f"{self.name} {self._numbers} of {case.protocol}: {sentences}."

    def _await_interrupt(self) -> None:
        """Wait for an interrupt that was sent into the call; count one that does not arrive as swallowed."""
        end = time.monotonic() + _GRACE
        while self.interrupting or self.sent != self.caught:
            if time.monotonic() > end and not self.interrupting:
                self.swallowed += 1
                self.caught += 1
            time.sleep(0.001)

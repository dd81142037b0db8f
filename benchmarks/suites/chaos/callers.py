"""The chaos's callers: threads that call whatever there is to call, and can be interrupted anywhere in it."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from benchmarks.suites.chaos.records import SHORT, Entry
from cosyclient import CosyError, PartialFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.suites.chaos.protocols import Way
    from cosyclient import CosyClient

AMPLE: Final = 15.0
"""Seconds that a text is given where its deadline shall be no reason for anything."""
_WORDS: Final = "你好，世界。今天天气很好。 The quick brown fox jumps over the lazy dog. One, two, three. "
_PACE: Final = 100.0
"""Turns a second that a caller makes whose calls end at once."""
_GRACE: Final = 1.0
"""Seconds an interrupt may take to come out of the call it was sent into, once that has returned."""


class Interrupt(KeyboardInterrupt):
    """Be told apart from everybody else's Ctrl-C."""


@dataclass(eq=False)
class Job:
    """Hold one call's texts; the ledger is all jobs of all callers."""

    entries: list[Entry]
    options: dict[str, Any]
    chance: random.Random

    def rest(self, end: Callable[[Entry], object]) -> None:
        """Apply *end* to the texts that have not ended, and that no future will tell of."""
        for entry in self.entries:
            if not entry.ending and entry.future is None:
                end(entry)


def _one(view: CosyClient, job: Job) -> None:
    (entry,) = job.entries
    entry.speaks(view.synthesize(entry.text, **job.options).audio)


def _later(view: CosyClient, job: Job) -> None:
    for entry in job.entries:
        entry.future = view.submit(entry.text, on_done=entry.on_done, **job.options)
        if job.chance.random() < 0.3:
            time.sleep(job.chance.uniform(0.0, 0.05))
            entry.leaving = True
            entry.future.cancel()
    if job.chance.random() < 0.7:
        for entry in job.entries:
            assert entry.future is not None
            with suppress(CosyError, CancelledError):
                entry.future.result()


def _many(view: CosyClient, job: Job) -> None:
    chance, texts = job.chance, [entry.text for entry in job.entries]
    source = iter(texts) if chance.random() < 0.5 else texts
    outcomes = view.synthesize_many(source, ordered=chance.random() < 0.5, **job.options)
    enough = chance.randint(1, len(texts)) if chance.random() < 0.2 else len(texts) + 1
    for outcome in outcomes:
        job.entries[outcome.index].hears(outcome)
        enough -= 1
        if not enough:
            outcomes.close()
            job.rest(lambda entry: entry.leaves("cancelled"))
            return


def _batch(view: CosyClient, job: Job) -> None:
    try:
        audios = view.batch_synth([entry.text for entry in job.entries], **job.options)
    except PartialFailure as failure:
        for outcome in failure.outcomes:
            job.entries[outcome.index].hears(outcome)
        return
    for entry, audio in zip(job.entries, audios, strict=True):
        entry.speaks(audio)


def _stream(view: CosyClient, job: Job) -> None:
    (entry,) = job.entries
    with view.stream(entry.text, **job.options) as stream:
        if job.chance.random() < 0.3:
            next(iter(stream))
            entry.leaves("cancelled")
            return
        entry.speaks(stream.speech().audio)


def _text(view: CosyClient, job: Job) -> None:
    (entry,) = job.entries

    def pieces() -> Iterator[str]:
        for at in range(0, len(entry.text), 24):
            yield entry.text[at : at + 24]

    with view.stream_text(pieces(), **job.options) as stream:
        entry.speaks(stream.speech().audio)


CALLS: Final[Mapping[str, tuple[Callable[[CosyClient, Job], None], int, float]]] = {
    "synthesize": (_one, 1, 5.0),
    "submit": (_later, 6, 3.0),
    "synthesize_many": (_many, 40, 2.0),
    "batch_synth": (_batch, 20, 1.0),
    "stream": (_stream, 1, 2.0),
    "stream_text": (_text, 1, 1.0),
}
"""Each way to call: what does it, the most texts it is given, and how often it is chosen."""


@dataclass(eq=False)
class Caller:
    """Call at random until told to stop; count the interrupts that came out where they should.

    An interrupter raises `asking`, looks whether the caller is `within` a call and has seen all it was sent, sends,
    counts it in `sent` and lowers `asking` again. So none arrives where a caller has nothing to catch it with.
    """

    name: str
    ways: Mapping[Way, CosyClient]
    """The view to call for each way, kept up to date by whoever uploads voices."""
    seed: str
    jobs: list[Job] = field(default_factory=list)
    closing: bool = False
    """Whether the client will be closed while it is called."""
    running: bool = True
    over: bool = False
    idle: bool = False
    within: bool = False
    asking: bool = False
    sent: int = 0
    seen: int = 0
    lost: int = 0
    """Interrupts that never came out: somebody swallowed them."""
    current: str = ""
    before: Callable[[], object] | None = None
    """Called at the start of every turn."""

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._numbers = self.ident = 0
        self.thread = threading.Thread(target=self.run, name=self.name, daemon=True)

    def run(self) -> None:
        """Call until `over`."""
        self.ident = threading.get_ident()
        while not self.over:
            try:
                self.within = True
                self._turn()
                self.within = False
                self._await_interrupt()
            except Interrupt:
                self.within = False
                self.seen += 1
                if self.jobs:
                    self.jobs[-1].rest(lambda entry: entry.leaves("interrupted"))
        self.running = False

    def _turn(self) -> None:
        if self.before is not None:
            self.before()
        if self.idle:
            time.sleep(0.05)
            return
        self.call(self._chance.choice(list(self.ways)))
        # Whoever failed at once comes back a little later, as people do.
        time.sleep(self._chance.expovariate(_PACE) if self.jobs[-1].entries[-1].ending == "spoken" else 0.1)

    def call(self, way: Way) -> None:
        """Make one random call to the client of *way* and take down what became of its texts."""
        job, call = self._draw(way)
        self.jobs.append(job)
        self.current = f"{job.entries[0].call} of {way.protocol}"
        try:
            CALLS[call][0](self.ways[way], job)
        except CosyError as error:
            told = error
            job.rest(lambda entry: entry.fails(told))
        self.current = ""
        self.over |= any(entry.error == "ClientClosed" for entry in job.entries)

    def _draw(self, way: Way) -> tuple[Job, str]:
        chance = self._chance
        fit = {"stream": way.streams, "stream_text": way.texts}
        calls = [call for call in CALLS if fit.get(call, True)]
        call = chance.choices(calls, [CALLS[each][2] for each in calls])[0]
        timeout = chance.uniform(0.02, SHORT) if chance.random() < 0.1 else AMPLE
        options: dict[str, Any] = {"timeout": timeout}
        if chance.random() < 0.2:
            options["priority"] = chance.choice(("interactive", "bulk"))
        if call in ("stream", "stream_text"):
            options.pop("priority", None)
        entries = [
            Entry(protocol=way.protocol, text=self._text(way), call=call, timeout=timeout, closing=self.closing)
            for _ in range(chance.randint(1, CALLS[call][1]))
        ]
        return Job(entries, options, chance), call

    def _text(self, way: Way) -> str:
        self._numbers += 1
        if self._chance.random() < 0.05:
            return f"everybody's {self._chance.randrange(5)}"  # several may ask for it at once
        length = int(2 ** self._chance.uniform(0.0, 8.0))
        words = (_WORDS * (length // len(_WORDS) + 1))[:length].rstrip()
        return f"{self.name} {self._numbers} of {way.protocol}: {words}."

    def _await_interrupt(self) -> None:
        """Let an interrupt that was sent into the call come out of it; count one that does not as lost."""
        patience = time.monotonic() + _GRACE
        while self.asking or self.sent != self.seen:
            if time.monotonic() > patience and not self.asking:
                self.lost += 1
                self.seen += 1
            time.sleep(0.001)

"""Bulk calls: texts read only as fast as their outcomes are, in order or as they finish."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

from cosyclient.clock import Mailbox
from cosyclient.errors import ClientClosed, ConfigurationError, CosyError
from cosyclient.models import ALPHABETIC_SECONDS, SYLLABIC_SECONDS, Outcome, Speech

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from cosyclient.models import VoiceSettings
    from cosyclient.pipeline.admission import Admission, CallOptions
    from cosyclient.pipeline.queue.pending import Waiter

# 4 s of speech are 17 KB of Opus or 20 KB of MP3 in usual settings, up to 32 KB in good ones.
_COMPRESSED_BYTES_PER_SECOND: Final = 8000.0
# Looks at the window for each time that the capacity is computed: that costs as much as ten looks.
_LOOKS_PER_CAPACITY: Final = 16


class BulkWindow:
    """Count the texts of one bulk call that are pending or not yet read, and the audio they are expected to become.

    At most *texts*, and at most *audio_bytes* of audio unless that would hold back the first *least*: a request must
    be filled. *capacity* returns how many texts, and seconds of audio, the service can take at the moment: what is
    submitted beyond that would only wait, and be late. Not thread-safe: one call, one thread.
    """

    def __init__(
        self,
        settings: VoiceSettings,
        *,
        texts: int,
        least: int,
        audio_bytes: int,
        capacity: Callable[[], tuple[float, float]] = lambda: (math.inf, math.inf),
    ) -> None:
        self._texts = texts
        self._capacity = capacity
        self._bounds = (math.inf, math.inf)
        self._asked = 0
        self._least = min(least, texts)
        self._audio_bytes = audio_bytes
        plain = settings.format in ("wav", "pcm")
        self._per_second = (2 * settings.sample_rate if plain else _COMPRESSED_BYTES_PER_SECOND) / settings.speed
        self._count = 0
        self._expected_bytes = 0

    @property
    def has_room(self) -> bool:
        """Return whether another text may be sent on its way."""
        if self._count < self._least:
            return True
        if not self._asked % _LOOKS_PER_CAPACITY:
            self._bounds = self._capacity()
        self._asked += 1
        texts, seconds = self._bounds
        return self._count < min(self._texts, texts) and self._expected_bytes < min(
            self._audio_bytes, seconds * self._per_second
        )

    @property
    def audio_seconds(self) -> float:
        """Return the seconds of audio under way or not yet read."""
        return self._expected_bytes / self._per_second

    def add(self, texts: Sequence[object]) -> None:
        """Count *texts* as under way."""
        self._count += len(texts)
        self._expected_bytes += sum(map(self._expects, texts))

    def remove(self, text: object) -> None:
        """Count *text* as read."""
        self._count -= 1
        self._expected_bytes -= self._expects(text)

    def _expects(self, text: object) -> int:
        if not isinstance(text, str):
            return 0  # refused as soon as it is looked at
        # Coarser than an utterance's own estimate, and cheap enough to be made twice for every text.
        return int(len(text) * (ALPHABETIC_SECONDS if text.isascii() else SYLLABIC_SECONDS) * self._per_second)

    def __repr__(self) -> str:
        return (
            f"<BulkWindow {self._count}/{self._texts} texts, "
            f"{self._expected_bytes / 1e6:.1f} of {self._audio_bytes / 1e6:.1f} MB expected>"
        )


def in_order(
    admission: Admission, batches: Iterator[list[str]], options: CallOptions, window: BulkWindow
) -> Generator[Outcome, None, None]:
    """Yield the outcomes of the texts in *batches* in their order."""
    texts: deque[str] = deque()
    waiters: deque[Waiter] = deque()
    index = 0
    try:
        while True:
            while not admission.closed and window.has_room and (batch := next(batches, None)):
                window.add(batch)
                texts.extend(batch)
                admission.submit_many(batch, options, audio=window.audio_seconds, into=waiters)
            if not waiters:
                break
            # Most results are there already.
            result = waiters[0].result or admission.result_of(waiters[0])
            waiters.popleft()
            text = texts.popleft()
            yield outcome_of(index, text, result)
            window.remove(text)
            index += 1
    finally:
        _undo(admission, waiters)
    _check_all_read(admission, batches)


def as_finished(
    admission: Admission, batches: Iterator[list[str]], options: CallOptions, window: BulkWindow
) -> Generator[Outcome, None, None]:
    """Yield the outcomes of the texts in *batches* as they finish."""
    finished: Mailbox[Waiter] = Mailbox()
    waiting: dict[Waiter, tuple[int, str]] = {}
    fresh: list[Waiter] = []
    index = 0
    try:
        while True:
            while not admission.closed and window.has_room and (batch := next(batches, None)):
                window.add(batch)
                fresh = []
                admission.submit_many(batch, options, audio=window.audio_seconds, into=fresh, notify=finished.put)
                for text, waiter in zip(batch, fresh, strict=True):
                    waiting[waiter] = (index, text)
                    index += 1
                    admission.start_timer(waiter)
            if not waiting:
                break
            done = finished.get()  # bounded: the timer resolves each by its deadline
            assert done.result is not None  # noqa: S101 - finished waiters have one
            position, text = waiting.pop(done)
            yield outcome_of(position, text, done.result)
            window.remove(text)
    finally:
        _undo(admission, (*waiting, *fresh))
    _check_all_read(admission, batches)


def in_batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield *texts* in lists: of *size* where they are at hand already, of one where they are still being made."""
    check_texts(texts)
    step = size if isinstance(texts, (list, tuple)) else 1
    source = iter(texts)
    return iter(lambda: list(islice(source, step)), [])


def check_texts(texts: object) -> None:
    """Raise `ConfigurationError` unless *texts* are several texts."""
    check_iterable(texts, "several texts", one="for one use synthesize")


def check_iterable(texts: object, rule: str, *, one: str) -> None:
    """Raise `ConfigurationError` with *rule* unless *texts* can be iterated, and with *one* if it is a single text."""
    if isinstance(texts, (str, bytes)):
        raise ConfigurationError(f"texts: must be {rule}; {one}")
    if not (isinstance(texts, Iterable) or hasattr(texts, "__getitem__")):
        raise ConfigurationError(f"texts: must be {rule}, got {type(texts).__name__}")


def outcome_of(index: int, text: str, result: Speech | BaseException) -> Outcome:
    """Return the outcome of the text at *index*, whose *result* is a speech or what it failed with."""
    if isinstance(result, Speech):
        return Outcome(index, text, speech=result)
    return Outcome(index, text, error=result if isinstance(result, CosyError) else CosyError(str(result)))


def _undo(admission: Admission, waiters: Iterable[Waiter]) -> None:
    try:
        admission.undo(waiters)
    except BaseException:  # an interrupt meanwhile: once more
        admission.undo(waiters)
        raise


def _check_all_read(admission: Admission, batches: Iterator[list[str]]) -> None:
    """Raise if a closed client left texts unread: a silent end would look like success."""
    if admission.closed and next(batches, None):
        raise ClientClosed("the client was closed before all texts were read")

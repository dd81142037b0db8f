"""Events: records of what happens in a client, for metrics and logs. They hold no text and no audio.

```python
from cosyclient import CosyClient
from cosyclient.events import Event, UtteranceFinished


def count(event: Event) -> None:
    if isinstance(event, UtteranceFinished):
        print(event.characters, event.attempts, event.error)  # 13 1 None


with CosyClient("https://tts.example.com", listeners=[count]) as cosy:
    cosy.synthesize("Hello, world.")
```

A listener is called on the thread on which the event happens, so it must be short. What it raises is logged. The logger
``cosyclient`` receives every event, too.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeAlias

from cosyclient.errors import ConfigurationError

if TYPE_CHECKING:
    from cosyclient.errors import CosyError

logger = logging.getLogger("cosyclient")
logger.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Tell that something happened at an endpoint; the root of all events."""

    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSealed(Event):
    """Tell that a batch was closed and is about to be sent; ``waited`` is its oldest text's wait in seconds."""

    batch: str
    texts: int
    characters: int
    waited: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFinished(Event):
    """Tell how one try of a batch ended; ``failed`` counts texts that came back as errors."""

    batch: str
    number: int
    texts: int
    failed: int
    latency: float
    error: CosyError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled(Event):
    """Tell that a try failed and another follows after ``wait`` seconds."""

    batch: str
    number: int
    texts: int
    wait: float
    error: CosyError


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceFinished(Event):
    """Tell that one text was resolved; ``fingerprint`` stands for it."""

    fingerprint: str
    characters: int
    audio_bytes: int
    seconds: float
    latency: float
    attempts: int
    error: CosyError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerChanged(Event):
    """Tell that a breaker moved between closed, open and half-open."""

    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDown(Event):
    """Tell that the service is down because of ``error``, and that texts of bulk calls wait for it from now on."""

    error: CosyError


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUp(Event):
    """Tell that the service answers again, ``seconds`` after the first text began to wait for it."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RateChanged(Event):
    """Tell that the service's word moved our pacing, in requests a second; ``hold`` is a pause in seconds."""

    old: float
    new: float
    hold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChanged(Event):
    """Tell that the number of attempts that may be in flight has moved by 3, and a factor of 1.5, or more."""

    old: int
    new: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRateDoubted(Event):
    """Tell once that speeches are too fast or too slow: their lengths are those of ``likely`` Hz, not ``taken`` Hz.

    Of a service that names no rate, such as the official runtime, ``sample_rate`` is taken for it: pass
    ``sample_rate=`` as ``likely`` says.
    """

    taken: int
    likely: int
    speeches: int


Listener: TypeAlias = Callable[[Event], None]

_LEVELS: dict[type[Event], int] = {
    BreakerChanged: logging.WARNING,
    ServiceDown: logging.WARNING,
    ServiceUp: logging.WARNING,
    SampleRateDoubted: logging.WARNING,
    RateChanged: logging.INFO,
    LimitChanged: logging.INFO,
    RetryScheduled: logging.INFO,
}


def log(event: Event) -> None:
    """Write *event* to the ``cosyclient`` logger: a listener like any other, always installed."""
    level = _LEVELS.get(type(event), logging.DEBUG)
    if logger.isEnabledFor(level):
        words = " ".join(f"{field.name}={_word(getattr(event, field.name))}" for field in fields(event))
        logger.log(level, "%s %s", type(event).__name__, words)


def _word(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    # The class alone: a service's message may quote the text.
    return type(value).__name__ if isinstance(value, BaseException) else str(value)


def invoke_callback(guest: Callable[..., object], *arguments: object) -> None:
    """Call *guest*, a function of the user's: what it raises is logged and fails no call.

    But for an interrupt of the thread of the user's that it runs on, which is meant for the user.
    """
    try:
        guest(*arguments)
    except BaseException as error:
        if raised_by_signal(error) or not (isinstance(error, _OF_GUESTS) or _on_own_thread()):
            raise
        logger.exception("%r failed", guest)


_OF_GUESTS = (Exception, SystemExit, GeneratorExit)


def _on_own_thread() -> bool:
    return threading.current_thread().name.startswith("cosyclient")


def raised_by_signal(error: BaseException | None) -> bool:
    """Return whether a signal's handler raised *error* amid our code, as the time limit of a task queue does.

    It is meant for the user, then, and says nothing of us or the service.
    """
    codes = {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()}
    while error is not None:
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code in codes:
                return True
            trace = trace.tb_next
        # A codec, for one, raises anew what came amid its work.
        error = error.__cause__
    return False


class Events:
    """Hand each event to every listener; one that raises is logged and does not disturb the call."""

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        if not isinstance(listeners, Iterable) or not all(map(callable, kept := tuple(listeners))):
            raise ConfigurationError("listeners: must be functions, each called with every event")
        self._listeners = kept

    @property
    def wanted(self) -> bool:
        """Return whether anybody would hear an event of every single text."""
        return bool(self._listeners) or logger.isEnabledFor(logging.DEBUG)

    def emit(self, event: Event) -> None:
        """Tell all listeners of *event*, on the calling thread."""
        log(event)
        for listener in self._listeners:
            invoke_callback(listener, event)

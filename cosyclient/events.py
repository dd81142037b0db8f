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
    """The root of all events: something happened at an endpoint."""

    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSealed(Event):
    """A batch was sealed and is about to be sent; ``waited`` is its oldest text's wait in seconds."""

    batch: str
    texts: int
    characters: int
    waited: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(Event):
    """An attempt is about to be sent; `AttemptFinished` of the same ``batch`` and ``number`` follows."""

    batch: str
    number: int
    texts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFinished(Event):
    """One attempt of a batch ended; ``failed`` counts the texts that came back as errors."""

    batch: str
    number: int
    texts: int
    failed: int
    latency: float
    error: CosyError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled(Event):
    """An attempt failed and another follows after ``wait`` seconds."""

    batch: str
    number: int
    texts: int
    wait: float
    error: CosyError


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceFinished(Event):
    """One text was resolved with its speech or error; ``fingerprint`` identifies it."""

    fingerprint: str
    characters: int
    audio_bytes: int
    seconds: float
    latency: float
    attempts: int
    error: CosyError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerChanged(Event):
    """A breaker changed between closed, open and half-open."""

    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDown(Event):
    """The service is down because of ``error``; texts of bulk calls wait for it from now on."""

    error: CosyError


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUp(Event):
    """The service answers again, ``seconds`` after the first text began to wait for it."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RateChanged(Event):
    """A reply of the service changed the client's pacing, in requests a second; ``hold`` is a pause in seconds."""

    old: float
    new: float
    hold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChanged(Event):
    """The number of attempts that may be in flight has changed by at least 3 and by a factor of at least 1.5."""

    old: int
    new: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRateDoubted(Event):
    """Speeches are probably too fast or too slow: their lengths fit ``likely`` Hz, not ``taken`` Hz; emitted once.

    Where a service names no sample rate, as the official runtime, the client assumes the option ``sample_rate``. Pass
    ``likely`` as ``sample_rate=``.
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
    """Write *event* to the logger ``cosyclient``; every client calls this before its listeners."""
    level = _LEVELS.get(type(event), logging.DEBUG)
    if logger.isEnabledFor(level):
        values = " ".join(f"{field.name}={_format(getattr(event, field.name))}" for field in fields(event))
        logger.log(level, "%s %s", type(event).__name__, values)


def _format(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    # The class alone: a service's message may quote the text.
    return type(value).__name__ if isinstance(value, BaseException) else str(value)


def invoke_callback(callback: Callable[..., object], *arguments: object) -> None:
    """Call *callback*, a function of the user; log what it raises, so that it fails no call.

    An interrupt (see `cosyclient.clock`) of a thread of the user is raised all the same: it is addressed to the user.
    """
    try:
        callback(*arguments)
    except BaseException as error:
        if raised_by_signal(error) or not (isinstance(error, _LOGGED_ERRORS) or _on_client_thread()):
            raise
        logger.exception("%r failed", callback)


_LOGGED_ERRORS = (Exception, SystemExit, GeneratorExit)


def _on_client_thread() -> bool:
    return threading.current_thread().name.startswith("cosyclient")


def raised_by_signal(error: BaseException | None) -> bool:
    """Return whether a signal handler raised *error* while library code ran, as the time limit of a task queue does.

    Such an error is addressed to the user and tells nothing about the client or the service.
    """
    codes = {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()}
    while error is not None:
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code in codes:
                return True
            trace = trace.tb_next
        # Some library code raises another error from it: codecs do.
        error = error.__cause__
    return False


class Events:
    """The listeners of a client; an error that one raises is logged and fails no call."""

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        if not isinstance(listeners, Iterable) or not all(map(callable, own := tuple(listeners))):
            raise ConfigurationError("listeners: must be functions, each called with every event")
        self._listeners = own

    @property
    def wanted(self) -> bool:
        """Return whether events that occur once a text have a receiver; without one they need not be made."""
        return bool(self._listeners) or logger.isEnabledFor(logging.DEBUG)

    def emit(self, event: Event) -> None:
        """Log *event* and call every listener with it, on the calling thread."""
        log(event)
        for listener in self._listeners:
            invoke_callback(listener, event)

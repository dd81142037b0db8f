"""Record how every text ends, and decide whether a fault explains it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cosyclient import CosyError
from cosyclient.emulator import echo_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from cosyclient import Outcome, Speech

_LATE: Final = frozenset({"DeadlineExceeded", "BulkheadFull", "RateLimited", "QueueFull"})
_REFUSED: Final = frozenset({"RetryBudgetSpent", "CircuitOpen"})
_CONNECTION: Final = frozenset({"TransportError", "ConnectFailed", "AttemptTimeout"}) | _REFUSED
EXPLAINED: Final[Mapping[str, frozenset[str]]] = {
    # What the service does. vLLM-Omni and LightTTS have no codes over WebSocket, so a 429 is a fault like any other
    # there; gRPC's UNAVAILABLE is a broken connection.
    "throttle": frozenset({"Throttled", "ServiceFault"}) | _REFUSED | _LATE,
    "error": frozenset({"ServiceFault"}) | _REFUSED,
    "unavailable": frozenset({"ServiceFault", "Throttled", "TransportError"}) | _REFUSED | _LATE,
    "reset": _CONNECTION,
    "cut": frozenset({"DecodeError"}) | _CONNECTION,
    "garbage": frozenset({"DecodeError"}) | _CONNECTION,
    "hang": _CONNECTION | _LATE,
    # Uploaded voices end with the process, and with the reset that ends the faults.
    "restart": frozenset({"NotFound"}) | _CONNECTION | _LATE,
    "lost voices": frozenset({"NotFound"}),
    # What the callers do.
    "short deadline": _LATE,
    "closed": frozenset({"ClientClosed"}),
}
"""The errors that each cause explains. A phase that is calm, slow or idle explains none."""
SHORT_TIMEOUT: Final = 0.5
"""Seconds up to which a text's own timeout explains that it is late."""


@dataclass(eq=False, kw_only=True)
class TextRecord:
    """Record one text from before it is asked for until it has ended."""

    protocol: str
    text: str
    call: str
    timeout: float
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    ending: str = ""
    """``succeeded``, ``wrong`` (another text's audio), ``failed``, ``interrupted`` or ``cancelled``."""
    error: str = ""
    detail: str = ""
    cancelling: bool = False
    """Whether its caller has cancelled it, or is about to."""
    closing: bool = False
    """Whether its client is closed while it is called."""
    future: Future[Speech] | None = None
    callbacks: int = 0
    """How often ``on_done`` was called."""

    def note_audio(self, audio: bytes) -> None:
        """Note the audio that came back."""
        try:
            text = echo_text(audio)
        except ValueError as error:
            text = f"({error})"
        # Some services drop spaces between sentences and add a full stop; neither changes what is spoken.
        right = [*filter(str.isalnum, text)] == [*filter(str.isalnum, self.text)]
        self._end("succeeded" if right else "wrong", detail="" if right else text[-80:])

    def note_error(self, error: BaseException) -> None:
        """Note the error it ended with."""
        if self.cancelling and type(error).__name__ in ("Rejected", "CancelledError"):
            self.note_left("cancelled")
            return
        # The client's own errors carry the attempts they were sent in.
        cause = f" <- {error.__cause__!r}" if error.__cause__ else ""
        attempts = len(error.attempts) if isinstance(error, CosyError) else 0
        self._end("failed", type(error).__name__, f"{error} [{attempts} attempts]{cause}"[:300])

    def note_outcome(self, outcome: Outcome) -> None:
        """Note an outcome."""
        if outcome.speech is not None:
            self.note_audio(outcome.speech.audio)
        elif outcome.error is not None:
            self.note_error(outcome.error)

    def on_done(self, outcome: Outcome) -> None:
        """Note the outcome that a future's callback is called with."""
        self.callbacks += 1
        self.note_outcome(outcome)

    def note_left(self, how: str) -> None:
        """Note that its caller was ``interrupted``, or has ``cancelled`` it."""
        self._end(how)

    def read_future(self) -> None:
        """Note how the future ended, if there is one: its callback may have been interrupted."""
        if not self.ending and self.future is not None and self.future.done():
            if self.future.cancelled():
                self.note_left("cancelled")
            elif (error := self.future.exception()) is not None:
                self.note_error(error)
            else:
                self.note_audio(self.future.result().audio)

    def _end(self, ending: str, error: str = "", detail: str = "") -> None:
        # The ending is stored last: an interrupt before that leaves a text without one, which counts as interrupted.
        if not self.ending:
            self.ended, self.error, self.detail = time.monotonic(), error, detail
            self.ending = ending

    def document(self) -> dict[str, Any]:
        """Return plain values, to be read again with ``TextRecord(**document)``."""
        future, self.future = self.future, None
        document = asdict(self)
        self.future = future
        return document


@dataclass(kw_only=True)
class FaultPeriod:
    """Hold a kind of fault, and from when until when the service had it."""

    kind: str
    began: float
    ended: float = float("inf")


def cause_of(record: TextRecord, faults: Sequence[FaultPeriod]) -> str | None:
    """Return the cause that explains the error of *record*, or None if nothing does."""
    if record.closing and record.error in EXPLAINED["closed"]:
        return "closed"
    for fault in faults:
        overlaps = record.began <= fault.ended and record.ended >= fault.began
        if overlaps and record.error in EXPLAINED[fault.kind]:
            return fault.kind
    return "short deadline" if record.timeout <= SHORT_TIMEOUT and record.error in EXPLAINED["short deadline"] else None


def row_of(protocol: str, records: Iterable[TextRecord], faults: Sequence[FaultPeriod]) -> dict[str, Any]:
    """Return one protocol's figures and findings; each text is counted under exactly one of its columns."""
    mine = [record for record in records if record.protocol == protocol]
    endings, causes, findings = Counter[str](), Counter[str](), []
    for record in mine:
        kind = record.ending or "unaccounted"
        if kind == "failed":
            cause = cause_of(record, faults)
            kind = "failed" if cause else "unexplained"
            causes[cause or "none"] += 1
        if kind in ("wrong", "unexplained", "unaccounted"):
            span = f"{record.began:.2f} to {record.ended:.2f}" if record.ended else f"since {record.began:.2f}"
            findings.append(
                f"{protocol} {record.call} {kind}: {record.error} {record.detail} ({record.text[:24]!r}, {span})"
            )
        if record.callbacks > 1:
            findings.append(
                f"{protocol} {record.call}: on_done was called {record.callbacks} times ({record.text[:24]!r})"
            )
        endings[kind] += 1
    names = ("succeeded", "failed", "interrupted", "cancelled", "wrong", "unexplained", "unaccounted")
    causes.pop("none", None)
    return {
        "protocol": protocol,
        "texts": len(mine),
        **{name: endings[name] for name in names},
        "causes": dict(causes.most_common()),
        "findings": findings,
    }

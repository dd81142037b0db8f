"""Take down what became of every text in the chaos, and decide whether there was a reason for it."""

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
_SPENT: Final = frozenset({"RetryBudgetSpent", "CircuitOpen"})
_BROKEN: Final = frozenset({"TransportError", "ConnectFailed", "AttemptTimeout"}) | _SPENT
REASONS: Final[Mapping[str, frozenset[str]]] = {
    # What the service does. vLLM-Omni and LightTTS have no codes over WebSocket: a 429 is a fault like any other there;
    # gRPC's UNAVAILABLE is a wire that broke.
    "throttle": frozenset({"Throttled", "ServiceFault"}) | _SPENT | _LATE,
    "error": frozenset({"ServiceFault"}) | _SPENT,
    "unavailable": frozenset({"ServiceFault", "Throttled", "TransportError"}) | _SPENT | _LATE,
    "reset": _BROKEN,
    "cut": frozenset({"DecodeError"}) | _BROKEN,
    "garbage": frozenset({"DecodeError"}) | _BROKEN,
    "hang": _BROKEN | _LATE,
    # What a process had been given to keep ends with it; the faults' end empties its shelves, too.
    "restart": frozenset({"NotFound"}) | _BROKEN | _LATE,
    "forgotten voices": frozenset({"NotFound"}),
    # What we do.
    "short deadline": _LATE,
    "closed": frozenset({"ClientClosed"}),
}
"""Which errors each cause explains. A phase in which all is well, slow or idle explains none."""
SHORT: Final = 0.5
"""Seconds up to which a text's own timeout is a reason for being late."""


@dataclass(eq=False, kw_only=True)
class Entry:
    """Follow one text from before it is asked for until it has ended, one way or the other."""

    protocol: str
    text: str
    call: str
    timeout: float
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    ending: str = ""
    """``spoken``, ``wrong`` (another text's audio), ``failed``, ``interrupted`` or ``cancelled``."""
    error: str = ""
    detail: str = ""
    leaving: bool = False
    """Whether its caller has taken it back, or is about to."""
    closing: bool = False
    """Whether its client is closed amid its calls."""
    future: Future[Speech] | None = None
    told: int = 0
    """How often ``on_done`` was called."""

    def speaks(self, audio: bytes) -> None:
        """Note the audio that came back."""
        try:
            heard = echo_text(audio)
        except ValueError as error:
            heard = f"({error})"
        # Blanks between sentences, and a full stop too many, are nothing to be spoken, and some services drop them.
        right = [*filter(str.isalnum, heard)] == [*filter(str.isalnum, self.text)]
        self._end("spoken" if right else "wrong", detail="" if right else heard[-80:])

    def fails(self, error: BaseException) -> None:
        """Note the error it ended with."""
        if self.leaving and type(error).__name__ in ("Rejected", "CancelledError"):
            self.leaves("cancelled")
            return
        # An error of ours that was sent names the attempts it was sent in.
        cause = f" <- {error.__cause__!r}" if error.__cause__ else ""
        tried = len(error.attempts) if isinstance(error, CosyError) else 0
        self._end("failed", type(error).__name__, f"{error} [{tried} attempts]{cause}"[:300])

    def hears(self, outcome: Outcome) -> None:
        """Note an outcome."""
        if outcome.speech is not None:
            self.speaks(outcome.speech.audio)
        elif outcome.error is not None:
            self.fails(outcome.error)

    def on_done(self, outcome: Outcome) -> None:
        """Be the callback of a future."""
        self.told += 1
        self.hears(outcome)

    def leaves(self, how: str) -> None:
        """Note that its caller was ``interrupted``, or has ``cancelled`` it."""
        self._end(how)

    def settle(self) -> None:
        """Ask the future, if there is one, after the callback may have been interrupted."""
        if not self.ending and self.future is not None and self.future.done():
            if self.future.cancelled():
                self.leaves("cancelled")
            elif (error := self.future.exception()) is not None:
                self.fails(error)
            else:
                self.speaks(self.future.result().audio)

    def _end(self, ending: str, error: str = "", detail: str = "") -> None:
        # The ending last: an interrupt in between leaves a text that has not ended, and is put down as interrupted.
        if not self.ending:
            self.ended, self.error, self.detail = time.monotonic(), error, detail
            self.ending = ending

    def document(self) -> dict[str, Any]:
        """Return plain values, to be read again with ``Entry(**document)``."""
        future, self.future = self.future, None
        document = asdict(self)
        self.future = future
        return document


@dataclass(kw_only=True)
class Trouble:
    """Say what the service suffered, and from when until when."""

    kind: str
    began: float
    ended: float = float("inf")


def reason(entry: Entry, troubles: Sequence[Trouble]) -> str | None:
    """Return why *entry* may have failed as it did, or None if nothing explains that."""
    if entry.closing and entry.error in REASONS["closed"]:
        return "closed"
    for trouble in troubles:
        overlaps = entry.began <= trouble.ended and entry.ended >= trouble.began
        if overlaps and entry.error in REASONS[trouble.kind]:
            return trouble.kind
    return "short deadline" if entry.timeout <= SHORT and entry.error in REASONS["short deadline"] else None


def row_of(protocol: str, entries: Iterable[Entry], troubles: Sequence[Trouble]) -> dict[str, Any]:
    """Return one protocol's figures and findings; each text is counted under exactly one of its columns."""
    mine = [entry for entry in entries if entry.protocol == protocol]
    endings, causes, findings = Counter[str](), Counter[str](), []
    for entry in mine:
        kind = entry.ending or "unaccounted"
        if kind == "failed":
            why = reason(entry, troubles)
            kind = "failed" if why else "unexplained"
            causes[why or "none"] += 1
        if kind in ("wrong", "unexplained", "unaccounted"):
            span = f"{entry.began:.2f} to {entry.ended:.2f}" if entry.ended else f"since {entry.began:.2f}"
            findings.append(
                f"{protocol} {entry.call} {kind}: {entry.error} {entry.detail} ({entry.text[:24]!r}, {span})"
            )
        if entry.told > 1:
            findings.append(f"{protocol} {entry.call}: on_done was called {entry.told} times ({entry.text[:24]!r})")
        endings[kind] += 1
    names = ("spoken", "failed", "interrupted", "cancelled", "wrong", "unexplained", "unaccounted")
    causes.pop("none", None)
    return {
        "protocol": protocol,
        "texts": len(mine),
        **{name: endings[name] for name in names},
        "causes": dict(causes.most_common()),
        "findings": findings,
    }

"""Decide which request meets which fault: injected ones first, then at random."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

Rule = tuple[Callable[[Any], bool], str]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_SECONDS: Rule = (lambda value: _is_number(value) and value >= 0, "seconds, zero or more")
_MAYBE_SECONDS: Rule = (lambda value: value is None or _SECONDS[0](value), "seconds, or null")
_COUNT: Rule = (lambda value: _is_whole(value) and value >= 0, "a whole number, zero or more")
_POSITIVE: Rule = (lambda value: _is_whole(value) and value >= 1, "a whole number, one or more")
_MAYBE_COUNT: Rule = (lambda value: value is None or _COUNT[0](value), "a whole number, or null")
_SHARE: Rule = (lambda value: _is_number(value) and 0 <= value <= 1, "a share between 0 and 1")
_STATUS: Rule = (lambda value: _is_whole(value) and 400 <= value <= 599, "a status from 400 to 599")
_BOOL: Rule = (lambda value: isinstance(value, bool), "true or false")
_TEXT: Rule = (lambda value: isinstance(value, str) and value.isascii(), "plain ASCII text")
_MAYBE_TEXT: Rule = (lambda value: value is None or _TEXT[0](value), "plain ASCII text, or null")
_RETRY_AFTER: Rule = (lambda value: value == "date" or _COUNT[0](value), 'whole seconds, or "date"')
_DELTA: Rule = (lambda value: _is_whole(value) and -64 <= value <= 64 and value != 0, "a whole number, not zero")
_INDICES: Rule = (
    lambda value: value is None or (isinstance(value, (list, tuple)) and all(_COUNT[0](each) for each in value)),
    "a list of indices, or null",
)

FAULTS: Mapping[str, Mapping[str, tuple[Any, Rule]]] = {
    "throttle": {"retry_after": (1, _RETRY_AFTER), "ms": (None, _MAYBE_COUNT)},
    "throttle_bare": {},
    "error": {
        "status": (500, _STATUS),
        "code": (None, _MAYBE_TEXT),
        "after": (0.0, _SECONDS),
        "retry_after": (None, _MAYBE_SECONDS),
    },
    "unavailable": {},
    "reset": {"at": (None, _MAYBE_COUNT)},
    "cut": {"share": (0.5, _SHARE), "chunked": (False, _BOOL)},
    "drip": {"bytes": (1, _POSITIVE), "interval": (0.05, _SECONDS)},
    "drip_headers": {"bytes": (1, _POSITIVE), "interval": (0.05, _SECONDS)},
    "hang": {"seconds": (None, _MAYBE_SECONDS)},
    "hang_body": {"seconds": (None, _MAYBE_SECONDS), "at": (0, _COUNT)},
    "garbage": {"bytes": (256, _POSITIVE)},
    "html": {"status": (200, (lambda value: _is_whole(value) and 200 <= value <= 599, "a status from 200 to 599"))},
    "noise": {"bytes": (10_000_000, _COUNT)},
    "empty": {},
    "bomb": {"bytes": (256 << 20, _POSITIVE)},
    "wrong_count": {"delta": (-1, _DELTA)},
    "wrong_index": {"index": (None, _MAYBE_COUNT)},
    "failed_items": {
        "indices": (None, _INDICES),
        "share": (0.5, _SHARE),
        "code": ("internal", _TEXT),
        "retryable": (True, _BOOL),
        "retry_after_ms": (None, _MAYBE_COUNT),
    },
    "model_error": {"after": (1, _COUNT)},
    "too_large": {},
    "error_event": {"after": (1, _COUNT), "code": ("InternalError", _TEXT)},
    "short_audio": {"share": (0.02, _SHARE)},
    "odd_pieces": {"bytes": (1001, _POSITIVE)},
    "not_audio": {"indices": (None, _INDICES)},
    "truncated_audio": {"indices": (None, _INDICES)},
    "silent_audio": {"indices": (None, _INDICES)},
    "joined_audio": {"indices": (None, _INDICES), "files": (3, _POSITIVE)},
    "unsized_audio": {"indices": (None, _INDICES), "size": (2_000_000_000, _COUNT)},
    "mislabelled_audio": {"indices": (None, _INDICES), "media_type": ("binary/octet-stream", _TEXT)},
    "reject_handshake": {"status": (401, _STATUS)},
    "task_failed": {
        "code": ("InternalError", _TEXT),
        "message": ("the engine failed", _TEXT),
        "after": (0, _COUNT),
    },
}
"""Every fault with its parameters: default value and rule."""

HANDSHAKE_FAULTS = frozenset({"reject_handshake"})
"""Faults of opening a WebSocket; requests, and tasks on one that is open, never meet them."""


@dataclass(frozen=True)
class Fault:
    """One fault and its parameters; those left out take the default."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in FAULTS:
            raise ValueError(f"fault must be one of {', '.join(FAULTS)}, not {self.name!r}")
        known = FAULTS[self.name]
        for name, value in self.params.items():
            if name not in known:
                takes = ", ".join(known) or "nothing"
                raise ValueError(f"fault {self.name} does not take {name!r}; it takes {takes}")
            accepts, rule = known[name][1]
            if not accepts(value):
                raise ValueError(f"{name} of fault {self.name} must be {rule}, not {value!r}")

    def __getitem__(self, name: str) -> Any:
        return self.params[name] if name in self.params else FAULTS[self.name][name][0]


class FaultPlan:
    """Give out injected faults in their order, and others at random."""

    def __init__(self, shares: Mapping[str, float], rng: random.Random) -> None:
        self._shares = [(name, share) for name, share in shares.items() if share > 0]
        self._rng = rng
        self._queue: deque[Fault] = deque()

    def __repr__(self) -> str:
        by_chance = " ".join(f"{name}={share:g}" for name, share in self._shares)
        return f"<FaultPlan queued={len(self._queue)}{' ' + by_chance if by_chance else ''}>"

    def inject(self, fault: Fault, count: int = 1) -> None:
        """Let the next *count* valid requests meet *fault*."""
        if not _is_whole(count) or not 1 <= count <= 100_000:
            raise ValueError(f"count must be between 1 and 100000, not {count!r}")
        self._queue.extend([fault] * count)

    def clear(self) -> None:
        """Drop injected faults that were not applied yet."""
        self._queue.clear()

    def draw(self, *, handshake: bool = False) -> Fault | None:
        """Return the fault of the next request, or of the next *handshake*, or None."""
        for fault in self._queue:
            if (fault.name in HANDSHAKE_FAULTS) is handshake:
                self._queue.remove(fault)
                return fault
        if not self._shares:
            return None
        roll = self._rng.random()
        for name, share in self._shares:
            if roll < share:
                return Fault(name) if (name in HANDSHAKE_FAULTS) is handshake else None
            roll -= share
        return None

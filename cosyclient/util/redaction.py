"""What is quoted of a service in errors and logs: on one line, short, without the texts and secrets sent to it.

A service decides what its errors say, and some say all that they were sent. Errors are logged, shown and sent to error
trackers; texts and keys are not.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK: Final = "****"
_WORD: Final = re.compile(r"[\x21-\x7e]+", re.ASCII)
_FEWEST: Final = 8
"""Characters below which a secret is none, and would be found in any word."""
_SHORT: Final = 4
"""Characters below which the beginning of an ASCII text may be in any message."""
_OPENING: Final = 16
_PASSAGE: Final = 24
"""Characters that a text's beginning, or any passage of it, has when it counts as quoted."""
_MOST_CAUSES: Final = 8


class RedactedText(str):
    """Be text that no traceback, log or debugger shows unasked: its repr shows none of it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{MASK}>"


class RedactedBytes(bytes):
    """Be bytes that no traceback, log or debugger shows unasked."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


def single_line(value: object, limit: int) -> str:
    """Return *value* on one line of at most *limit* printable characters, with "…" if cut; "" if it is no text."""
    if not isinstance(value, str):
        return ""
    # Line breaks and controls would let a service write its own log lines, and colour a terminal.
    line = " ".join("".join(c if c.isprintable() else " " for c in value[: 4 * limit]).split())
    return line if len(line) <= limit and len(value) <= 4 * limit else line[: limit - 1] + "…"


def short_token(value: object, limit: int) -> str:
    """Return *value* if it is a name, a token or an id of at most *limit* characters, and nothing if it is more."""
    return value if isinstance(value, str) and len(value) <= limit and _WORD.fullmatch(value) else ""


def quotes_any(said: str, texts: Iterable[str]) -> bool:
    """Return whether *said* quotes one of *texts*: its beginning, or a longer passage, in whatever case or escaped."""
    found = _compared(said)
    # Without a mark between them: the pieces of a conversation are one text.
    whole = ""
    for text in texts:
        line = _compared(text)
        opening = line[:_OPENING]
        escaped = json.dumps(opening)[1:-1]
        if (len(opening) >= _SHORT or not opening.isascii()) and (opening in found or escaped in found):
            return True
        whole += line
    return any(found[at : at + _PASSAGE] in whole for at in range(len(found) - _PASSAGE + 1))


def _compared(said: str) -> str:
    """Return *said* without what services change when they quote: case, and blanks of all kinds."""
    return "".join(said.casefold().split())


def mask_secrets(said: str, secrets: Iterable[str]) -> str:
    """Return *said* without *secrets*, in whatever case; one that was cut off at its end, too."""
    for secret in secrets:
        if len(secret) < _FEWEST:
            continue
        said = re.sub(re.escape(secret), MASK, said, flags=re.IGNORECASE)
        head = said.removesuffix("…")
        for size in range(min(len(secret) - 1, len(head)), _FEWEST // 2, -1):
            if head != said and head.casefold().endswith(secret[:size].casefold()):
                said = f"{head[:-size]}{MASK}…"
                break
    return said


def redact_error(error: BaseException | None, secrets: Iterable[str]) -> None:
    """Take *secrets* out of *error* and what caused it; foreign exceptions quote the wire in words of their own."""
    secrets = tuple(secrets)
    for _ in range(_MOST_CAUSES):
        if error is None or not secrets:
            return
        error.args = tuple(mask_secrets(arg, secrets) if isinstance(arg, str) else arg for arg in error.args)
        for name in ("code", "request_id"):
            if isinstance(said := getattr(error, name, None), str):
                setattr(error, name, mask_secrets(said, secrets))
        error = error.__cause__ or error.__context__

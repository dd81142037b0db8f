"""Redaction: quote a service in errors and logs on one short line, without the texts and secrets sent to it.

A service writes its own error messages, and some repeat everything that was sent. Errors are logged, displayed and sent
to error trackers; texts and keys must not be.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK: Final = "****"
_TOKEN: Final = re.compile(r"[\x21-\x7e]+", re.ASCII)
_MIN_SECRET_LENGTH: Final = 8
"""Shorter secrets are not masked: they would be found in any word."""
_MIN_ASCII_BEGINNING: Final = 4
"""The beginning of a shorter ASCII text is not looked for: any message may contain it."""
_BEGINNING_LENGTH: Final = 16
_PASSAGE_LENGTH: Final = 24
"""Characters of a text's beginning, and of any passage of it, that count as a quotation."""
_MAX_CAUSES: Final = 8


class RedactedText(str):
    """A str whose repr shows none of it, as tracebacks and debuggers display local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{MASK}>"


class RedactedBytes(bytes):
    """Bytes whose repr shows their number only."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


def single_line(value: object, limit: int) -> str:
    """Return *value* on one line of at most *limit* printable characters, with "…" if cut; "" if it is no str."""
    if not isinstance(value, str):
        return ""
    # Line breaks and control characters would let a service forge log lines and control a terminal.
    line = " ".join("".join(c if c.isprintable() else " " for c in value[: 4 * limit]).split())
    return line if len(line) <= limit and len(value) <= 4 * limit else line[: limit - 1] + "…"


def short_token(value: object, limit: int) -> str:
    """Return *value* if it is one word of printable ASCII of at most *limit* characters, such as an id; else ""."""
    return value if isinstance(value, str) and len(value) <= limit and _TOKEN.fullmatch(value) else ""


def quotes_any(message: str, texts: Iterable[str]) -> bool:
    """Return whether *message* quotes one of *texts*: its beginning, or a longer passage, in any case or escaped."""
    found = _normalized(message)
    # Without a separator: the pieces of a text stream are one text.
    whole = ""
    for text in texts:
        line = _normalized(text)
        beginning = line[:_BEGINNING_LENGTH]
        escaped = json.dumps(beginning)[1:-1]
        if (len(beginning) >= _MIN_ASCII_BEGINNING or not beginning.isascii()) and (
            beginning in found or escaped in found
        ):
            return True
        whole += line
    return any(found[at : at + _PASSAGE_LENGTH] in whole for at in range(len(found) - _PASSAGE_LENGTH + 1))


def _normalized(text: str) -> str:
    """Return *text* without what services change when they quote: case and whitespace."""
    return "".join(text.casefold().split())


def mask_secrets(message: str, secrets: Iterable[str]) -> str:
    """Return *message* with *secrets* masked, in any case; also one that is cut off at the end of *message*."""
    for secret in secrets:
        if len(secret) < _MIN_SECRET_LENGTH:
            continue
        message = re.sub(re.escape(secret), MASK, message, flags=re.IGNORECASE)
        head = message.removesuffix("…")
        for size in range(min(len(secret) - 1, len(head)), _MIN_SECRET_LENGTH // 2, -1):
            if head != message and head.casefold().endswith(secret[:size].casefold()):
                message = f"{head[:-size]}{MASK}…"
                break
    return message


def redact_error(error: BaseException | None, secrets: Iterable[str]) -> None:
    """Mask *secrets* in *error* and in its causes: exceptions of other packages quote what was sent or received."""
    secrets = tuple(secrets)
    for _ in range(_MAX_CAUSES):
        if error is None or not secrets:
            return
        error.args = tuple(mask_secrets(arg, secrets) if isinstance(arg, str) else arg for arg in error.args)
        for name in ("code", "request_id"):
            if isinstance(value := getattr(error, name, None), str):
                setattr(error, name, mask_secrets(value, secrets))
        error = error.__cause__ or error.__context__

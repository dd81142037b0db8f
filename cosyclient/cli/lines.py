"""Input lines: what a text file or JSONL file asks for, bad lines told apart from good ones."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from cosyclient.errors import BadUtterance, ConfigurationError, CosyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ID: Final = re.compile(r"[^\W_][\w.@+-]*")
# A file name holds 255 bytes; the rest is for the ending and for the name a file has until it is whole.
_MAX_ID_BYTES: Final = 200
_OPTIONS: Final = frozenset({"voice", "model", "format", "sample_rate", "speed", "instruct", "seed"})


@dataclass(frozen=True, slots=True)
class Line:
    """Hold one line's wish, or the error it is."""

    number: int
    id: str
    text: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    error: CosyError | None = None


def open_input(name: str) -> tuple[IO[bytes], bool]:
    """Open *name* (``-`` is standard input) and say whether it is JSONL, by its ending."""
    if name == "-":
        return sys.stdin.buffer, False
    path = Path(name)
    try:
        return path.open("rb"), path.suffix.lower() in (".jsonl", ".ndjson")
    except OSError as error:
        raise ConfigurationError(f"INPUT: {name}: {error.strerror}") from None


def read_lines(source: IO[bytes], *, jsonl: bool) -> Iterator[Line]:
    """Yield a `Line` per non-blank line, lazily; its id is the line's number unless the line names one."""
    seen: set[str] = set()
    for number, raw in enumerate(source, start=1):
        if not raw.strip():
            continue
        try:
            line = _json_line(number, raw) if jsonl else Line(number, _numbered(number), _decode(raw).strip())
            # An id given twice would write one file twice; plain numbers cannot collide.
            if jsonl and line.id in seen:
                raise BadUtterance(f"id: {line.id!r} was used before; ids name files and must differ")
        except BadUtterance as error:
            line = Line(number, _numbered(number), error=error)
        if jsonl:
            seen.add(line.id)
        yield line


def _numbered(number: int) -> str:
    return f"{number:05d}"


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig" if raw.startswith(b"\xef\xbb\xbf") else "utf-8")
    except UnicodeDecodeError as error:
        raise BadUtterance(f"not UTF-8 at byte {error.start}") from None


def _json_line(number: int, raw: bytes) -> Line:
    try:
        record = json.loads(_decode(raw))
    except json.JSONDecodeError as error:
        raise BadUtterance(f"malformed JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise BadUtterance(f"malformed JSON: {error}") from None
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise BadUtterance('must be an object with a string "text"')
    name = record.get("id", _numbered(number))
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if not isinstance(name, str) or not _ID.fullmatch(name) or len(name.encode()) > _MAX_ID_BYTES:
        raise BadUtterance(
            f"id: must be letters, digits or . _ @ + -, start with a letter or digit and be at most {_MAX_ID_BYTES} "
            f"bytes long, got {name!r:.80}"
        )
    if unknown := record.keys() - _OPTIONS - {"id", "text"}:
        raise BadUtterance(
            f"unknown member {', '.join(map(repr, sorted(unknown)))}; known are id, text, {', '.join(sorted(_OPTIONS))}"
        )
    options = {key: record[key] for key in _OPTIONS & record.keys()}
    for key, value in options.items():
        if isinstance(value, (list, dict)):
            raise BadUtterance(
                f"{key}: must be a plain value, not {'a list' if isinstance(value, list) else 'an object'}"
            )
    return Line(number, name, record["text"], options)

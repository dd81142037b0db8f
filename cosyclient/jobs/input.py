"""Input lines: texts and options from a text file or a JSONL file."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from cosyclient.errors import BadUtterance, ConfigurationError, CosyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OPTIONS: Final = frozenset({"voice", "model", "format", "sample_rate", "speed", "instruct", "seed"})
_KINDS: Final = {list: "a list", dict: "an object", bool: "true or false", type(None): "null"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its text and options, or the error that makes it unusable.

    ``id`` is the line's own, unchanged, else its number in five digits. ``extra`` holds the other members of a JSONL
    line, which go to the manifest.
    """

    number: int
    id: Any
    text: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    error: CosyError | None = None


@dataclass(frozen=True, slots=True)
class FieldNames:
    """The names of the members of a JSONL line that are its text and its id."""

    text: str = "text"
    id: str = "id"

    def __post_init__(self) -> None:
        for option, name in (("--text-field", self.text), ("--id-field", self.id)):
            if not name or name in OPTIONS:
                raise ConfigurationError(f"{option}: must name a member that is not an option, got {name!r}")
        if self.text == self.id:
            raise ConfigurationError(f"--id-field: {self.id!r} already names the text")


def open_input(name: str) -> tuple[IO[bytes], bool]:
    """Open *name* (``-`` is standard input); return it and whether its suffix is that of JSONL."""
    if name == "-":
        return sys.stdin.buffer, False
    path = Path(name)
    try:
        return path.open("rb"), path.suffix.lower() in (".jsonl", ".ndjson")
    except OSError as error:
        raise ConfigurationError(f"INPUT: {name}: {error.strerror}") from None


def read_lines(source: IO[bytes], *, jsonl: bool, names: FieldNames | None = None) -> Iterator[Line]:
    """Yield a `Line` per non-blank line of *source*, lazily."""
    names = names or FieldNames()
    for number, raw in enumerate(source, start=1):
        if not raw.strip():
            continue
        try:
            if jsonl:
                yield _json_line(number, raw, names)
            else:
                yield Line(number, default_id(number), _decode(raw).strip())
        except BadUtterance as error:
            yield Line(number, default_id(number), error=error)


def default_id(number: int) -> str:
    """Return the id of a line that has none of its own."""
    return f"{number:05d}"


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig" if raw.startswith(b"\xef\xbb\xbf") else "utf-8")
    except UnicodeDecodeError as error:
        raise BadUtterance(f"not UTF-8 at byte {error.start}") from None


def _json_line(number: int, raw: bytes, names: FieldNames) -> Line:
    try:
        record = json.loads(_decode(raw))
    except json.JSONDecodeError as error:
        raise BadUtterance(f"malformed JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise BadUtterance(f"malformed JSON: {error}") from None
    if not isinstance(record, dict):
        raise BadUtterance(f"must be an object with a string {json.dumps(names.text)}")
    name, text = record.pop(names.id, None), record.pop(names.text, None)
    options = {key: record.pop(key) for key in OPTIONS & record.keys()}
    problem = _problem(names, name, text, options)
    return Line(
        number,
        default_id(number) if name is None else name,
        text if isinstance(text, str) else "",
        options,
        record,
        error=None if problem is None else BadUtterance(problem),
    )


def _problem(names: FieldNames, name: Any, text: Any, options: Mapping[str, Any]) -> str | None:
    if not isinstance(text, str):
        return f"must be an object with a string {json.dumps(names.text)}"
    if isinstance(name, (bool, list, dict)):
        return f"{names.id}: must be a string or a number, not {_KINDS[type(name)]}"
    for key, value in options.items():
        if isinstance(value, (list, dict)):
            return f"{key}: must be a plain value, not {_KINDS[type(value)]}"
    return None

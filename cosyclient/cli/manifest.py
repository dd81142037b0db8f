"""The record of a run: one JSON line per text, written as it happens, enough to go on from."""

from __future__ import annotations

import contextlib
import json
from typing import IO, TYPE_CHECKING, Any, Self

from cosyclient.errors import ConfigurationError
from cosyclient.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType


class Manifest:
    """Append a line per finished text to ``DIR/manifest.jsonl``; an interrupted run keeps every line before.

    With *resume*, what an earlier run finished is kept. Raises `ConfigurationError` when it cannot be written.
    """

    def __init__(self, directory: Path, *, resume: bool) -> None:
        self.path = directory / "manifest.jsonl"
        self._done: dict[str, dict[str, Any]] = {}
        self._outdated = False
        try:
            if resume and self.path.exists():
                for record in _records(self.path):
                    if record.get("error") is None and (directory / str(record.get("file"))).is_file():
                        self._done[str(record.get("id"))] = record
            write_atomically(self.path, _encoded(self._done.values()))
            self._file: IO[bytes] = self.path.open("ab")
        except OSError as error:
            raise self._unwritable(error) from None

    def finished(self, name: str, fingerprint: str) -> bool:
        """Return whether an earlier run made this very speech; the id alone may since stand for another text."""
        record = self._done.get(name)
        return record is not None and record.get("fingerprint") == fingerprint

    def write(self, **record: Any) -> None:
        """Append one record."""
        self._outdated |= self._done.pop(record["id"], None) is not None
        try:
            self._file.write(_encoded((record,)))
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        if self._outdated:
            # A text that was changed has two lines now; the last one counts.
            latest = {record.get("id"): record for record in _records(self.path)}
            # Only tidiness is at stake: a full disk must not spoil the end.
            with contextlib.suppress(OSError):
                write_atomically(self.path, _encoded(latest.values()))

    def _unwritable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(f"--output: cannot write {self.path}: {error.strerror}")


def _encoded(records: Iterable[dict[str, Any]]) -> bytes:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    # A message may quote half a surrogate pair; the backslash form is what JSON calls it.
    return text.encode(errors="backslashreplace")


def _records(path: Path) -> list[dict[str, Any]]:
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            record = json.loads(line)
        except ValueError:
            # The last line of a run that was killed may be half a line.
            continue
        if isinstance(record, dict):
            records.append(record)
    return records

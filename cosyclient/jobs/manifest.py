"""The record of a run: one JSON line per text, written as it happens, enough to go on from."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from cosyclient.errors import ConfigurationError
from cosyclient.util.files import PART_PREFIX, PART_SUFFIX, write_atomically

_flock: Callable[[int, int], None] | None = None
with contextlib.suppress(ImportError):  # not every platform locks like this
    from fcntl import LOCK_EX, LOCK_NB
    from fcntl import flock as _flock

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping
    from types import TracebackType

    from cosyclient.jobs.input import Line

NAME: Final = "manifest.jsonl"
_UNSAFE: Final = re.compile(r"[^\w.@+-]+")
_SAFE_START: Final = re.compile(r"\w")
# A file name holds 255 bytes; the rest is for what tells it from others, and for the ending.
_MOST_BYTES: Final = 200
_BEGINNINGS: Final = {".wav": (b"RIFF", b"RF64"), ".opus": (b"OggS",), ".mp3": (b"ID3", b"\xff")}


class Manifest:
    """Append a line per finished text to ``DIR/manifest.jsonl``; an interrupted run keeps every line before.

    Holds a lock on the folder, which ends with the process. With *resume*, what an earlier run finished is kept, and
    found by its fingerprint wherever its line has moved; with *overwrite* it is forgotten; with neither, an earlier
    run is refused. *emulator* tells speech of the emulator from that of a service. Raises `ConfigurationError` when the
    folder is another run's or cannot be written.
    """

    def __init__(
        self, directory: Path, *, resume: bool = False, overwrite: bool = False, emulator: bool = False
    ) -> None:
        self.path = directory / NAME
        self._directory = directory
        self._emulator = emulator
        self._done: dict[str, list[dict[str, Any]]] = {}
        self._taken = {_key(NAME)}
        # Of lines that are as they were, as place and file.
        self._kept: set[tuple[str, str]] = set()
        self._lock = _locked(directory)
        try:
            # Nobody else is at work here: what a killed run has left half-written is nobody's.
            for part in directory.glob(f"{PART_PREFIX}*{PART_SUFFIX}"):
                part.unlink(missing_ok=True)
            self._refuse_another(allowed=resume or overwrite)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | (0 if resume else os.O_TRUNC)
            self._file = os.open(self.path, flags, 0o666)
            self._began = self._size = self._end_the_last_line()
        except OSError as error:
            os.close(self._lock)
            raise ConfigurationError(f"--output: cannot write {self.path}: {error.strerror}") from None
        except BaseException:
            os.close(self._lock)
            raise
        for record in _records(self.path) if resume else ():
            if self._is_finished(record):
                self._done.setdefault(record["fingerprint"], []).append(record)
                self._taken.add(_key(record["file"]))

    @property
    def goes_on(self) -> bool:
        """Return whether an earlier run has finished anything."""
        return bool(self._done)

    def expect(self, fingerprints: Container[str]) -> None:
        """Give the names of earlier files free whose texts are not among *fingerprints*, those of all the input."""
        for fingerprint in [each for each in self._done if each not in fingerprints]:
            for record in self._done.pop(fingerprint):
                self._taken.discard(_key(record["file"]))

    def finished(self, line: Line, fingerprint: str) -> dict[str, Any] | None:
        """Return the record of this very speech, made by an earlier run, or ``None``."""
        records = self._done.get(fingerprint)
        if not records:
            return None
        return next((record for record in records if _same(record.get("id"), line.id)), records[0])

    def file_for(self, line: Line, format: str) -> str:
        """Return a name for *line*'s file that no other has: its id, as far as that can be one."""
        stem, name, count = _safe(line.id), f"{_safe(line.id)}.{format}", 0
        while _key(name) in self._taken:
            count += 1
            name = f"{stem}-{line.number}{'' if count == 1 else f'-{count}'}.{format}"
        self._taken.add(_key(name))
        return name

    def write(self, line: Line, **record: Any) -> None:
        """Append the record of *line*; raises `OSError`, and then nothing of it was written."""
        whole = {"id": line.id, "line": line.number, **record}
        if self._emulator:
            whole["emulator"] = True
        own = {name: value for name, value in line.extra.items() if name in whole or name == "input"}
        whole |= {name: value for name, value in line.extra.items() if name not in own}
        if own:
            whole["input"] = own
        try:
            encoded = _encoded((whole,))
        except RecursionError:
            encoded = _encoded(({name: value for name, value in whole.items() if name not in line.extra},))
        try:
            written = os.write(self._file, encoded)
            if written < len(encoded):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(self.path))
        except OSError:
            # Half a line would spoil the next one.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += written

    def keep(self, line: Line, record: Mapping[str, Any]) -> None:
        """Have *record*, which an earlier run made of *line*'s text, say what the line says now."""
        if record.get("line") != line.number or not _same(record.get("id"), line.id) or line.extra:
            now = {name: record.get(name) for name in ("fingerprint", "file", "bytes", "duration", "attempts", "error")}
            self.write(line, **now)
        else:
            self._kept.add((_place(record), record["file"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            os.close(self._file)
            # Only tidiness is at stake: a full disk must not spoil the end.
            with contextlib.suppress(OSError):
                if self._began:
                    self._tidy()
        finally:
            os.close(self._lock)

    def _tidy(self) -> None:
        """Leave out what this run has said anew."""
        now = list(_records(self.path, start=self._began))
        files = {record["file"] for record in now}
        said = {_place(record) for record in now} | {str(record["id"]) for record in now}
        before = [
            record
            for record in _records(self.path, end=self._began)
            if (
                record["file"] not in files or (_place(record), record["file"]) in self._kept
                if self._is_finished(record)
                else record.get("error") is not None and _place(record) not in said
            )
        ]
        content = _encoded([*before, *now])
        if len(content) != self._size:
            write_atomically(self.path, content)

    def _refuse_another(self, *, allowed: bool) -> None:
        with contextlib.suppress(FileNotFoundError):
            found = self.path.stat()
            if stat.S_ISREG(found.st_mode) and found.st_size and not allowed:
                raise ConfigurationError(
                    f"--output: {self._directory} holds an earlier run; --resume goes on with it, "
                    "--overwrite makes everything anew"
                )

    def _end_the_last_line(self) -> int:
        """Return the size of the file, whose last line a killed run may have left without its end."""
        size = os.lseek(self._file, 0, os.SEEK_END)
        if size:
            os.lseek(self._file, size - 1, os.SEEK_SET)
            if os.read(self._file, 1) != b"\n":
                size += os.write(self._file, b"\n")
        return size

    def _is_finished(self, record: Mapping[str, Any]) -> bool:
        """Return whether *record* tells of a speech whose file is there, and whole as far as is quickly seen."""
        name = record.get("file")
        if (
            record.get("error") is not None
            or not isinstance(name, str)
            or not isinstance(record.get("fingerprint"), str)
        ):
            return False
        # What the emulator said is not what the service would say, nor the other way round.
        if bool(record.get("emulator")) is not self._emulator:
            return False
        # A manifest may come from anywhere; it names files in this folder only.
        if not name or "\0" in name or Path(name).name != name:
            return False
        path = self._directory / name
        try:
            size = path.stat().st_size
            beginnings = _BEGINNINGS.get(path.suffix)
            with path.open("rb") as file:
                begins = beginnings is None or file.read(4).startswith(beginnings)
        except OSError:
            return False
        return size > 0 and begins and record.get("bytes", size) == size


def _locked(directory: Path) -> int:
    """Return a handle of *directory* that keeps other runs out of it until it is closed, by whatever end."""
    try:
        handle = os.open(os.devnull if _flock is None else directory, os.O_RDONLY)
    except OSError as error:
        raise ConfigurationError(f"--output: {directory}: {error.strerror}") from None
    if _flock is None:
        return handle
    try:
        _flock(handle, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise ConfigurationError(
            f"--output: another run is at work in {directory}; wait for it, or choose another folder"
        ) from None
    except OSError:
        # A file system without locks, as some network ones: better unguarded than not at all.
        pass
    return handle


def _safe(name: Any) -> str:
    """Return what can be a file's name on every system, of an id: itself where that is one, else told by a digest."""
    told = name if isinstance(name, str) else json.dumps(name)
    safe = _UNSAFE.sub("_", told[: _MOST_BYTES + 1])
    if not _SAFE_START.match(safe):
        safe = f"_{safe}"
    while len(safe.encode()) > _MOST_BYTES:
        safe = safe[:-1]
    if safe == told:
        return safe
    return f"{safe}-{hashlib.sha256(told.encode(errors='surrogatepass')).hexdigest()[:8]}"


def _key(name: str) -> str:
    # Some file systems know neither case nor the forms of an accent.
    return unicodedata.normalize("NFC", name).casefold()


def _place(record: Mapping[str, Any]) -> str:
    """Return what tells the line of *record* from others; earlier versions knew no number."""
    return f"line {record['line']}" if "line" in record else str(record.get("id"))


def _same(one: object, other: object) -> bool:
    # Earlier versions wrote numbers as strings.
    return str(one) == str(other)


def _encoded(records: Iterable[Mapping[str, Any]]) -> bytes:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    # A message may quote half a surrogate pair; the backslash form is what JSON calls it.
    return text.encode(errors="backslashreplace")


def _records(path: Path, *, start: int = 0, end: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the records between two positions; what is none is left out."""
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            try:
                record = json.loads(line.decode(errors="replace"))
            except (ValueError, RecursionError):
                # The last line of a run that was killed may be half a line, and whoever edits one may slip.
                record = None
            if isinstance(record, dict):
                yield record
            if end is not None and file.tell() >= end:
                return

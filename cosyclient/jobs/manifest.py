"""The manifest of a run: one JSON line per finished text, from which ``--resume`` continues."""

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
with contextlib.suppress(ImportError):  # POSIX only
    from fcntl import LOCK_EX, LOCK_NB
    from fcntl import flock as _flock

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping
    from types import TracebackType

    from cosyclient.jobs.input import Line

NAME: Final = "manifest.jsonl"
_UNSAFE: Final = re.compile(r"[^\w.@+-]+")
_SAFE_START: Final = re.compile(r"\w")
# A file name may have 255 bytes; the rest is for a number that makes it unique, and the suffix.
_MAX_NAME_BYTES: Final = 200
_FILE_BEGINNINGS: Final = {".wav": (b"RIFF", b"RF64"), ".opus": (b"OggS",), ".mp3": (b"ID3", b"\xff")}


class Manifest:
    """Appends a line per finished text to ``DIR/manifest.jsonl``; lines survive an interrupted run.

    Holds a lock on the directory until the process ends. With *resume* the speeches of an earlier run are kept, and
    found by their fingerprints wherever their lines have moved; with *overwrite* they are dropped; with neither, an
    earlier run is an error. *emulator* marks records of the emulator, which are not those of a service. Raises
    `ConfigurationError` if another run uses the directory or it cannot be written.
    """

    def __init__(
        self, directory: Path, *, resume: bool = False, overwrite: bool = False, emulator: bool = False
    ) -> None:
        self.path = directory / NAME
        self._directory = directory
        self._emulator = emulator
        self._done: dict[str, list[dict[str, Any]]] = {}
        self._taken = {_key(NAME)}
        # Unchanged records of an earlier run, as line key and file.
        self._kept: set[tuple[str, str]] = set()
        self._lock = _lock(directory)
        try:
            # This process holds the lock, so temporary files here are left from a killed run.
            for part in directory.glob(f"{PART_PREFIX}*{PART_SUFFIX}"):
                part.unlink(missing_ok=True)
            self._check_no_earlier_run(allowed=resume or overwrite)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | (0 if resume else os.O_TRUNC)
            self._file = os.open(self.path, flags, 0o666)
            self._began = self._size = self._complete_last_line()
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
    def has_finished(self) -> bool:
        """Return whether an earlier run finished any text."""
        return bool(self._done)

    def release_names_except(self, fingerprints: Container[str]) -> None:
        """Release the names of earlier files whose texts are not among *fingerprints*, those of the whole input."""
        for fingerprint in [each for each in self._done if each not in fingerprints]:
            for record in self._done.pop(fingerprint):
                self._taken.discard(_key(record["file"]))

    def finished(self, line: Line, fingerprint: str) -> dict[str, Any] | None:
        """Return the record of *fingerprint* from an earlier run, preferably one with the id of *line*, or None."""
        records = self._done.get(fingerprint)
        if not records:
            return None
        return next((record for record in records if _same_id(record.get("id"), line.id)), records[0])

    def file_for(self, line: Line, format: str) -> str:
        """Return a unique file name for *line*: its id, as far as that is a valid file name."""
        stem, name, count = _safe(line.id), f"{_safe(line.id)}.{format}", 0
        while _key(name) in self._taken:
            count += 1
            name = f"{stem}-{line.number}{'' if count == 1 else f'-{count}'}.{format}"
        self._taken.add(_key(name))
        return name

    def write(self, line: Line, **record: Any) -> None:
        """Append the record of *line*; raises `OSError` if it cannot be written, and leaves the file unchanged then."""
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
            # A partial line would corrupt the next one.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += written

    def keep(self, line: Line, record: Mapping[str, Any]) -> None:
        """Keep *record*, which an earlier run made of *line*'s text; write it again if the line has changed."""
        if record.get("line") != line.number or not _same_id(record.get("id"), line.id) or line.extra:
            names = ("fingerprint", "file", "bytes", "duration", "attempts", "error")
            self.write(line, **{name: record.get(name) for name in names})
        else:
            self._kept.add((_line_key(record), record["file"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            os.close(self._file)
            # Superseded records do no harm, so an error such as a full disk is ignored.
            with contextlib.suppress(OSError):
                if self._began:
                    self._drop_superseded()
        finally:
            os.close(self._lock)

    def _drop_superseded(self) -> None:
        """Rewrite the file without earlier records that this run has replaced."""
        now = list(_records(self.path, start=self._began))
        files = {record["file"] for record in now}
        replaced = {_line_key(record) for record in now} | {str(record["id"]) for record in now}
        before = [
            record
            for record in _records(self.path, end=self._began)
            if (
                record["file"] not in files or (_line_key(record), record["file"]) in self._kept
                if self._is_finished(record)
                else record.get("error") is not None and _line_key(record) not in replaced
            )
        ]
        content = _encoded([*before, *now])
        if len(content) != self._size:
            write_atomically(self.path, content)

    def _check_no_earlier_run(self, *, allowed: bool) -> None:
        with contextlib.suppress(FileNotFoundError):
            found = self.path.stat()
            if stat.S_ISREG(found.st_mode) and found.st_size and not allowed:
                raise ConfigurationError(
                    f"--output: {self._directory} holds an earlier run; --resume goes on with it, "
                    "--overwrite makes everything anew"
                )

    def _complete_last_line(self) -> int:
        """End the last line, which a killed run may have left incomplete; return the size of the file."""
        size = os.lseek(self._file, 0, os.SEEK_END)
        if size:
            os.lseek(self._file, size - 1, os.SEEK_SET)
            if os.read(self._file, 1) != b"\n":
                size += os.write(self._file, b"\n")
        return size

    def _is_finished(self, record: Mapping[str, Any]) -> bool:
        """Return whether *record* has a speech whose file exists and has the right size and beginning."""
        name = record.get("file")
        if (
            record.get("error") is not None
            or not isinstance(name, str)
            or not isinstance(record.get("fingerprint"), str)
        ):
            return False
        # A speech of the emulator does not replace one of the service, nor the other way round.
        if bool(record.get("emulator")) is not self._emulator:
            return False
        # A manifest may be edited by anyone: accept only files in this directory.
        if not name or "\0" in name or Path(name).name != name:
            return False
        path = self._directory / name
        try:
            size = path.stat().st_size
            beginnings = _FILE_BEGINNINGS.get(path.suffix)
            with path.open("rb") as file:
                begins = beginnings is None or file.read(4).startswith(beginnings)
        except OSError:
            return False
        return size > 0 and begins and record.get("bytes", size) == size


def _lock(directory: Path) -> int:
    """Lock *directory* against other runs; return the descriptor that holds the lock until it is closed."""
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
        # Some network file systems have no locks; the job runs without one there.
        pass
    return handle


def _safe(name: Any) -> str:
    """Return an id as a file name that is valid on every system: unchanged, or else with a digest to be unique."""
    text = name if isinstance(name, str) else json.dumps(name)
    safe = _UNSAFE.sub("_", text[: _MAX_NAME_BYTES + 1])
    if not _SAFE_START.match(safe):
        safe = f"_{safe}"
    while len(safe.encode()) > _MAX_NAME_BYTES:
        safe = safe[:-1]
    if safe == text:
        return safe
    return f"{safe}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"


def _key(name: str) -> str:
    # Some file systems ignore case and the Unicode normal form.
    return unicodedata.normalize("NFC", name).casefold()


def _line_key(record: Mapping[str, Any]) -> str:
    """Return what identifies the line of *record*; records of earlier versions have no line number."""
    return f"line {record['line']}" if "line" in record else str(record.get("id"))


def _same_id(one: object, other: object) -> bool:
    # Earlier versions wrote numbers as strings.
    return str(one) == str(other)


def _encoded(records: Iterable[Mapping[str, Any]]) -> bytes:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    # A message may contain half a surrogate pair, which UTF-8 cannot encode; JSON has an escape for it.
    return text.encode(errors="backslashreplace")


def _records(path: Path, *, start: int = 0, end: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the records between two positions; skip lines that are no JSON object."""
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            try:
                record = json.loads(line.decode(errors="replace"))
            except (ValueError, RecursionError):
                # The last line of a killed run may be incomplete, and someone may have edited the file.
                record = None
            if isinstance(record, dict):
                yield record
            if end is not None and file.tell() >= end:
                return

"""Files that are whole or not there; what is no file (a device, a pipe) is written to and stays what it is."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PART_PREFIX: Final = ".cosyclient-"
PART_SUFFIX: Final = ".part"
"""How the unfinished files begin and end that a killed process leaves behind."""


def write_atomically(path: Path, content: bytes) -> Path:
    """Write *content* to *path* as `atomic_file` does and return *path*."""
    with atomic_file(path) as file:
        file.write(content)
    return path


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open *path* for writing bytes; what is written appears there when the block ends, or not at all.

    A link is followed to what it names. A file that is replaced hands its mode down, and its owner where that may be
    given; a new one gets what ``open()`` would give it. A device, a pipe and whatever else is no regular file is
    written to directly. Raises the `OSError` of what went wrong, naming *path*.
    """
    part: str | None = None
    try:
        found, target = _stat(path), Path(os.path.realpath(path))
        if found is not None and not (stat.S_ISREG(found.st_mode) and _is(target, found)):
            # Links in /proc name open files to which no path leads.
            with open(path, "wb") as file:
                yield file
            return
        part, handle = _part(target.parent)
        with os.fdopen(handle, "wb") as file:
            yield file
        if found is not None:
            _inherit(part, found)
        os.replace(part, target)
    except BaseException as error:
        if part is not None:
            with contextlib.suppress(OSError):
                os.unlink(part)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, part):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
        raise


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _is(target: Path, found: os.stat_result) -> bool:
    there = _stat(target)
    return there is not None and os.path.samestat(there, found)


def _part(directory: Path) -> tuple[str, int]:
    """Return the name and the handle of a new file in *directory*; the name is short, however long the final one is."""
    name = os.path.join(directory, f"{PART_PREFIX}{secrets.token_hex(8)}{PART_SUFFIX}")
    # The umask is the kernel's to apply: reading it means setting it, for all threads.
    try:
        return name, os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        error.filename = None
        raise


def _inherit(part: str, found: os.stat_result) -> None:
    # Some file systems know neither; the content matters more.
    with contextlib.suppress(OSError):
        if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(part, found.st_uid, found.st_gid)
    with contextlib.suppress(OSError):
        os.chmod(part, stat.S_IMODE(found.st_mode) & 0o777)

"""Atomic writes of regular files; devices and pipes are written to directly."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PART_PREFIX: Final = ".cosyclient-"
PART_SUFFIX: Final = ".part"
"""Beginning and end of the names of temporary files; a killed process leaves such files behind."""


def write_atomically(path: Path, content: bytes) -> Path:
    """Write *content* to *path* through `atomic_file` and return *path*."""
    with atomic_file(path) as file:
        file.write(content)
    return path


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open *path* for writing bytes; the content appears there when the block ends without an error, or not at all.

    Follows a link to its target. A replaced file passes on its mode, and its owner where permitted; a new file gets the
    mode that ``open()`` would give it. Writes directly to what is no regular file, such as a device or a pipe. Raises
    `OSError` naming *path*.
    """
    temporary: str | None = None
    try:
        found, target = _stat(path), Path(os.path.realpath(path))
        if found is not None and not (stat.S_ISREG(found.st_mode) and _is_file(target, found)):
            # Not a regular file; or a link in /proc to an open file, which its resolved path does not name.
            with open(path, "wb") as file:
                yield file
            return
        temporary, handle = _create_temporary(target.parent)
        with os.fdopen(handle, "wb") as file:
            yield file
        if found is not None:
            _copy_owner_and_mode(temporary, found)
        os.replace(temporary, target)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, temporary):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
        raise


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _is_file(target: Path, found: os.stat_result) -> bool:
    status = _stat(target)
    return status is not None and os.path.samestat(status, found)


def _create_temporary(directory: Path) -> tuple[str, int]:
    """Create a file in *directory*; return its path and descriptor; its name is short even if the final one is long."""
    name = os.path.join(directory, f"{PART_PREFIX}{os.urandom(8).hex()}{PART_SUFFIX}")
    # The kernel applies the umask. Python can read it only by setting it, for all threads.
    try:
        return name, os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        error.filename = None
        raise


def _copy_owner_and_mode(path: str, found: os.stat_result) -> None:
    # Some file systems support neither; that does not make the write fail.
    with contextlib.suppress(OSError):
        if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(path, found.st_uid, found.st_gid)
    with contextlib.suppress(OSError):
        os.chmod(path, stat.S_IMODE(found.st_mode) & 0o777)

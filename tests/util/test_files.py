"""Files are whole or not there, and what is no file stays what it is."""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from cosyclient.util.files import atomic_file, write_atomically

if TYPE_CHECKING:
    from pathlib import Path


def break_off(path: Path, error: BaseException) -> None:
    """Write half a file, then fail."""
    with atomic_file(path) as file:
        file.write(b"half")
        raise error


def test_a_link_is_followed(tmp_path: Path) -> None:
    """To a file, to one that is not there yet, and through another link; each link stays one."""
    (tmp_path / "far").mkdir()
    for name, there in (("old", True), ("new", False)):
        target = tmp_path / "far" / name
        if there:
            target.write_bytes(b"before")
        link, second = tmp_path / name, tmp_path / f"second {name}"
        link.symlink_to(target)
        second.symlink_to(link)
        assert write_atomically(second, b"after") == second
        assert second.is_symlink()
        assert link.is_symlink()
        assert target.read_bytes() == b"after"
    assert sorted(os.listdir(tmp_path / "far")) == ["new", "old"]


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    """Its reader gets all of it, and it is a pipe afterwards."""
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_atomically(pipe, bytes(200_000))
    reader.join(10)
    assert received == [bytes(200_000)]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_device_is_written_to(tmp_path: Path) -> None:
    """Not replaced, and no link to it either."""
    master, slave = os.openpty()
    os.set_blocking(master, False)
    try:
        link = tmp_path / "terminal"
        link.symlink_to(os.ttyname(slave))
        write_atomically(link, b"hello")
        assert os.read(master, 5) == b"hello"
        assert link.is_symlink()
        assert stat.S_ISCHR(link.stat().st_mode)
    finally:
        os.close(master)
        os.close(slave)


def test_a_file_that_only_a_descriptor_names_is_written_to(tmp_path: Path) -> None:
    """As ``/dev/stdout`` names a file that has been deleted since, or a pipe."""
    gone = tmp_path / "gone"
    with gone.open("w+b") as file:
        gone.unlink()
        write_atomically(tmp_path / f"../../../../../proc/self/fd/{file.fileno()}", b"kept")
        file.seek(0)
        assert file.read() == b"kept"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_replaced_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    """What was private stays private."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"before")
    path.chmod(mode)
    write_atomically(path, b"after")
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_the_umask_is_applied_and_never_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting it, even for a moment, would give the files of other threads the wrong mode."""
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", lambda mask: pytest.fail("the umask was touched"))
            write_atomically(tmp_path / "new", b"x")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    finally:
        os.umask(before)


def test_a_file_name_of_maximal_length_is_written(tmp_path: Path) -> None:
    """The unfinished file has a short one of its own."""
    for name in ("n" * 255, "字" * 85):
        write_atomically(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"


@pytest.mark.parametrize("refused", ["chmod", "chown"])
def test_a_file_is_written_where_owner_and_mode_cannot_be_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """As some network shares and FAT are."""

    def refuse(*names: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    path = tmp_path / "a.wav"
    path.write_bytes(b"before")
    path.chmod(0o600)
    monkeypatch.setattr(os, refused, refuse)
    write_atomically(path, b"after")
    assert path.read_bytes() == b"after"


def test_errors_name_the_given_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the unfinished file nor nothing at all, and nothing of it is left."""
    with pytest.raises(FileNotFoundError) as missing:
        write_atomically(tmp_path / "missing" / "a.wav", b"x")
    assert missing.value.filename == str(tmp_path / "missing" / "a.wav")
    with pytest.raises(IsADirectoryError) as directory:
        write_atomically(tmp_path, b"x")
    assert directory.value.filename in (tmp_path, str(tmp_path))
    with pytest.raises(OSError, match="too long") as long:
        write_atomically(tmp_path / ("n" * 256), b"x")
    assert long.value.filename in (tmp_path / ("n" * 256), str(tmp_path / ("n" * 256)))

    full = tmp_path / "full.wav"
    with pytest.raises(OSError, match="No space left") as disk:
        break_off(full, OSError(errno.ENOSPC, "No space left on device"))
    assert (disk.value.errno, disk.value.filename) == (errno.ENOSPC, str(full))

    def refuse(old: str, new: str) -> None:
        raise OSError(errno.EACCES, "Permission denied", old, None, new)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError) as caught:
        write_atomically(full, b"x")
    assert caught.value.filename == str(full)
    assert caught.value.filename2 is None
    assert os.listdir(tmp_path) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    """Whole as it was, and nothing beside it; another error keeps its own path."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        break_off(path, KeyboardInterrupt())
    with pytest.raises(FileNotFoundError, match="other"):
        break_off(path, FileNotFoundError(errno.ENOENT, "No such file or directory", "other"))
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.wav"]

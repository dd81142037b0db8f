"""Serve prepared replies from a process that has next to nothing to do, so that what is slow is the client."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from cosyclient.audio import wav_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH: Final = 64
"""The most texts in a request."""
MEDIA_TYPES: Final = {"frames": "application/vnd.cosyvoice.batch-frames;v=1", "json": "application/json"}


class Replies:
    """Hold the replies of one *form*, frames or json, for up to `BATCH` texts, each answered with the same *audio*.

    *item* holds further members of each item; by default, that the text had 20 characters.
    """

    def __init__(self, form: str, audio: bytes, media_type: str = "audio/wav", **item: Any) -> None:
        self.media_type = MEDIA_TYPES[form]
        self._form = form
        item = {"media_type": media_type, **(item or {"characters": 20})}
        self._items = bytearray()
        self._ends = [0]
        for index in range(BATCH):
            self._items += _item(form, index, audio, item)
            self._ends.append(len(self._items))

    def pieces(self, count: int) -> list[bytes | memoryview]:
        """Return the reply for *count* texts, in pieces that are sent one after the other."""
        head: dict[str, Any] = {"id": "none", "model": "none", "format": "wav", "sample_rate": 24000, "total": count}
        items = memoryview(self._items)[: self._ends[count]]
        if self._form == "frames":
            return [_frame(kind="batch", **head), items, _frame(kind="end", succeeded=count, failed=0)]
        return [_compact(head)[:-1] + b',"results":[', items[:-1], b"]}"]

    def body(self, count: int) -> bytes:
        """Return the reply for *count* texts."""
        return b"".join(self.pieces(count))

    def __repr__(self) -> str:
        return f"<Replies {self._form}, {len(self._items)} bytes>"


def wav(size: int) -> bytes:
    """Return a WAV file of about *size* bytes."""
    return wav_bytes(bytes(range(250)) * ((size - 44) // 250), 24000)


def _compact(members: dict[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


def _frame(payload: bytes = b"", **members: Any) -> bytes:
    header = _compact(members)
    return struct.pack(">II", len(header), len(payload)) + header + payload


def _item(form: str, index: int, audio: bytes, members: dict[str, Any]) -> bytes:
    if form == "frames":
        return _frame(audio, kind="item", index=index, status="success", **members)
    coded = base64.b64encode(audio).decode()
    return _compact({"index": index, "status": "success", "audio_data": coded, **members}) + b","


@contextmanager
def serving(form: str, size: int) -> Iterator[str]:
    """Yield the URL of a service that answers each text with *size* bytes of audio; it ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.harness.prepared", form, str(size)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def main(form: str, size: str) -> None:
    """Serve and print the port."""
    replies = Replies(form, wav(int(size)))
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_answer, args=(connection, replies), daemon=True).start()


def _answer(connection: socket.socket, replies: Replies) -> None:
    with connection, connection.makefile("rb") as requests:
        try:
            while (count := _texts(requests)) is not None:
                pieces = replies.pieces(count)
                length = sum(map(len, pieces))
                head = f"HTTP/1.1 200 OK\r\nContent-Type: {replies.media_type}\r\nContent-Length: {length}\r\n\r\n"
                connection.sendall(head.encode() + pieces[0])
                for piece in pieces[1:]:
                    connection.sendall(piece)
        except OSError:
            # The client is gone, and this thread serves it alone.
            return


def _texts(requests: BinaryIO) -> int | None:
    """Read one request and return how many texts it asks for, or None at the end."""
    if not requests.readline():
        return None
    fields = {}
    while (line := requests.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip()
    body = requests.read(int(fields.get(b"content-length", 0)))
    if fields.get(b"content-encoding") == b"gzip":
        body = gzip.decompress(body)
    return len(json.loads(body)["texts"])


if __name__ == "__main__":
    main(*sys.argv[1:])

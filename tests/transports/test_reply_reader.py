"""Replies from bytes: however they are split, and whatever is wrong with them."""

from __future__ import annotations

import http.client
import io
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.transports.reply_reader import (
    MAX_HEAD_BYTES,
    MAX_LINE_BYTES,
    PIECE_BYTES,
    Inbox,
    Malformed,
    ReplyReader,
    Truncated,
)
from tests.hostile import chunked, reply


class Wire:
    """Deliver bytes in given portions, then the end."""

    def __init__(self, *portions: bytes) -> None:
        self._portions = [portion for portion in portions if portion]

    def receive(self, limit: int) -> bytes:
        if not self._portions:
            return b""
        portion = self._portions[0][:limit]
        rest = self._portions[0][limit:]
        self._portions[:1] = [rest] if rest else []
        return portion


def read(*portions: bytes, method: str = "POST") -> tuple[ReplyReader, bytes, Inbox]:
    inbox = Inbox(Wire(*portions).receive)
    reader = ReplyReader(inbox)
    reader.begin(method)
    pieces = []
    while not reader.done:
        pieces.append(reader.read())
    return reader, b"".join(pieces), inbox


def portions(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


@settings(deadline=None)
@given(
    pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=5),
    use_chunks=st.booleans(),
    cuts=st.lists(st.integers(0, 5000), max_size=12),
)
def test_any_split_of_the_bytes_gives_the_same_reply(pieces: list[bytes], use_chunks: bool, cuts: list[int]) -> None:
    """Two replies on one connection, cut anywhere."""
    data = (chunked(*pieces) if use_chunks else reply(b"".join(pieces))) + reply(b"next")
    inbox = Inbox(Wire(*portions(data, cuts)).receive)
    for expected in (b"".join(pieces), b"next"):
        reader = ReplyReader(inbox)
        reader.begin("POST")
        content = b""
        while not reader.done:
            content += reader.read()
        assert (reader.status, reader.reason, reader.keep_alive, content) == (200, b"OK", True, expected)
    assert inbox.empty


class _Pipe:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self._data))


def standard(data: bytes, method: str) -> tuple[Any, ...]:
    theirs = http.client.HTTPResponse(_Pipe(data), method=method)  # type: ignore[arg-type]
    theirs.begin()
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in theirs.getheaders()]
    return theirs.status, theirs.reason.encode("latin-1"), fields, not theirs.will_close, theirs.read()


@pytest.mark.parametrize("method", ["POST", "HEAD"])
@pytest.mark.parametrize(
    "data",
    [
        reply(
            b"hello",
            headers=("X-A: 1", "x-a:2", "X-Empty:", "X-Tab:\t v", "X-Latin: \xe9".encode().decode("latin-1")),
        ),
        reply(b"hello", headers=("Connection: close",)),
        reply(b"hello", headers=("Connection: Keep-Alive, Foo",)),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 404 Not  Found at all\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 100 Continue\r\n\r\n" + reply(b"late"),
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        chunked(b"a", b"bc" * 50_000, b"d"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3;ext=1\r\nabc\r\n00\r\nTrailer: x\r\n\r\n",
    ],
)
def test_agrees_with_the_standard_library(data: bytes, method: str) -> None:
    """http.client is the oracle for what both accept."""
    reader, content, _ = read(data, method=method)
    ours = (reader.status, reader.reason, reader.headers, reader.keep_alive, content)
    assert ours == standard(data, method)


def test_a_folded_field_is_one_value() -> None:
    """Obsolete, and still sent."""
    reader, _, _ = read(reply(headers=("X-Long: one", "  two", "\tthree")))
    assert (b"X-Long", b"one two three") in reader.headers


def test_interim_replies_are_passed_over() -> None:
    """An early hint left in the inbox would answer the next request."""
    reader, content, inbox = read(
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + reply(b"x")
    )
    assert (reader.status, content, inbox.empty) == (200, b"x", True)


def test_what_comes_after_the_end_is_noticed() -> None:
    """A server that says more than it announced has lost count."""
    _, content, inbox = read(reply(b"ok") + b"HTTP/1.1 200 OK\r\n\r\n")
    assert (content, inbox.empty) == (b"ok", False)


def test_both_framings_at_once_end_the_connection() -> None:
    """RFC 9112, 6.3: chunks win, the connection is not to be trusted."""
    reader, content, _ = read(chunked(b"abc", headers=("Content-Length: 99",)))
    assert (content, reader.keep_alive) == (b"abc", False)


def test_repeated_equal_lengths_are_one_length() -> None:
    """RFC 9110, 8.6."""
    assert read(b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nok")[1] == b"ok"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nspace : x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: nameless\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded first\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD_BYTES * 2,
        chunked(b"")[:-5] + b"-5\r\nhello\r\n",
        chunked(b"")[:-5] + b"0x5\r\nhello\r\n",
        chunked(b"")[:-5] + b"\r\n",
        chunked(b"")[:-5] + b"2\r\nhello\r\n",
        chunked(b"")[:-5] + b"1;" + b"x" * MAX_LINE_BYTES * 2,
        chunked(b"")[:-5] + b"0\r\n" + b"X: y\r\n" * MAX_HEAD_BYTES,
    ],
)
def test_what_is_not_a_reply_is_malformed(data: bytes) -> None:
    """Nothing is guessed."""
    with pytest.raises(Malformed):
        read(
            data.replace(b"\r\n\r\n0\r\n\r\n", b"\r\n\r\n", 1)
            if data.startswith(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked")
            else data
        )


@settings(deadline=None)
@given(cut=st.integers(0, 200))
def test_every_premature_end_is_noticed(cut: int) -> None:
    """Cut a reply anywhere before its end."""
    for data in (reply(b"x" * 50), chunked(b"x" * 30, b"y" * 20)):
        with pytest.raises(Truncated):
            read(data[: min(cut, len(data) - 1)])


def test_pieces_are_bounded_and_given_at_once() -> None:
    """No piece waits for another, none is larger than 64 KiB."""
    data = b"x" * 300_000
    inbox = Inbox(Wire(reply(data)[:1000], reply(data)[1000:]).receive)
    reader = ReplyReader(inbox)
    reader.begin("POST")
    sizes = []
    while not reader.done:
        sizes.append(len(reader.read()))
    assert sum(sizes) == len(data)
    assert max(sizes) <= PIECE_BYTES
    assert sizes[0] < 1000

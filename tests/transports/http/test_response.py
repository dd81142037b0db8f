"""Replies parsed from bytes: http.client reads them, and what it would guess is refused."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.transports.http.connection import ReplyBuffer
from cosyclient.transports.http.response import READ_ERRORS, RawReply
from tests.support.hostile import chunked, reply

PIECE_BYTES = 64 << 10
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Wire:
    """Deliver bytes in given portions, then the end."""

    def __init__(self, *portions: bytes) -> None:
        self._portions = [portion for portion in portions if portion]
        socket: Any = self
        self._received = ReplyBuffer(socket)

    def recv_into(self, buffer: Any) -> int:
        if not self._portions:
            return 0
        portion = self._portions[0][: len(buffer)]
        rest = self._portions[0][len(buffer) :]
        self._portions[:1] = [rest] if rest else []
        buffer[: len(portion)] = portion
        return len(portion)

    def makefile(self, _mode: str) -> ReplyBuffer:
        return self._received

    @property
    def empty(self) -> bool:
        try:
            return not self._received.read(1)
        except READ_ERRORS:
            return True


def read(wire: Wire, method: str = "POST") -> tuple[RawReply, list[bytes]]:
    answer = RawReply(wire, method)
    answer.begin()
    pieces = []
    while not answer.done:
        pieces.append(answer.read1(PIECE_BYTES))
    return answer, pieces


def content(*portions: bytes) -> bytes:
    return b"".join(read(Wire(*portions))[1])


@settings(deadline=None)
@given(
    pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=5),
    use_chunks=st.booleans(),
    cuts=st.lists(st.integers(0, 5000), max_size=12),
)
def test_any_split_of_the_bytes_gives_the_same_reply(pieces: list[bytes], use_chunks: bool, cuts: list[int]) -> None:
    """Two replies on one connection, cut anywhere; no byte of the second is lost with the first."""
    data = (chunked(*pieces) if use_chunks else reply(b"".join(pieces))) + reply(b"next")
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    wire = Wire(*(data[start:end] for start, end in itertools.pairwise(edges)))
    for expected in (b"".join(pieces), b"next"):
        answer, came = read(wire)
        assert (answer.status, answer.reason, answer.reusable, b"".join(came)) == (200, "OK", True, expected)
    assert wire.empty


@pytest.mark.parametrize(
    ("data", "expected", "reusable"),
    [
        (reply(b"hello"), b"hello", True),
        (reply(b"hello", headers=("Connection: close",)), b"hello", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", b"ok", True),
        (reply(b"ok", headers=("Content-Type: multipart/mixed; boundary=x",)), b"ok", True),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", b"ok", True),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", b"ok", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", b"ok", True),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end", False),
        (CHUNKED.replace(b"chunked", b"Chunked") + b"3;ext=1\r\nabc\r\n00\r\nTrailer: x\r\n\r\n", b"abc", True),
        (chunked(b"abc", headers=("Content-Length: 99",)), b"abc", False),
        (CHUNKED + b"3 \t\r\nabc\r\n0\r\n\r\n", b"abc", True),
        (CHUNKED + b"03;a=b;c\r\nabc\r\n0;x\r\n\r\n", b"abc", True),
        (CHUNKED + b"3\nabc\r\n0\r\n\r\n", b"abc", False),
    ],
)
def test_each_framing_is_read_and_decides_about_reuse(data: bytes, expected: bytes, reusable: bool) -> None:
    """A reply with two framings (the last) is read, but its connection is not used again (RFC 9112, 6.3)."""
    answer, pieces = read(Wire(data))
    assert (b"".join(pieces), answer.reusable) == (expected, reusable)


@pytest.mark.parametrize("data", [reply(b""), chunked(b"x"), b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"])
def test_replies_without_content_end_with_their_head(data: bytes) -> None:
    """A HEAD, an empty reply, a 304."""
    answer, pieces = read(Wire(data), "HEAD")
    assert (pieces, answer.reusable) == ([], True)


def test_interim_replies_are_skipped() -> None:
    """An early hint that is taken for the reply, or left behind, would answer the wrong request."""
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    wire = Wire(hints + reply(b"x"))
    answer, pieces = read(wire)
    assert (answer.status, pieces, wire.empty) == (200, [b"x"], True)


def test_fields_keep_their_bytes_and_a_folded_value_is_one_line() -> None:
    """Repeated ones stay apart; folding is obsolete, and still sent."""
    data = reply(headers=("X-A: 1", "x-a:2", "X-Empty:", "X-Tab:\t v", "X-Long: one", "  two", "\tthree"))
    answer, _ = read(Wire(data.replace(b"X-Empty:", b"X-Latin: \xe9\r\nX-Empty:")))
    assert answer.fields[1:] == [
        ("X-A", "1"),
        ("x-a", "2"),
        ("X-Latin", "\xe9"),
        ("X-Empty", ""),
        ("X-Tab", "v"),
        ("X-Long", "one  two\tthree"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nspace : x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: nameless\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded first\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        chunked(b"x", headers=("Content-Length: 1", "Content-Length: 2")),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 17),
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n",
        CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"x5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"2\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"1;" + b"x" * (1 << 17),
        CHUNKED + b"0\r\nX: " + b"x" * (1 << 17),
    ],
)
def test_an_invalid_reply_is_refused(data: bytes) -> None:
    """Neither an end nor a length is guessed."""
    with pytest.raises(READ_ERRORS):
        content(data)


LINES = st.sampled_from(
    [
        b"Content-Length: 2",
        b"content-length:2 ",
        b"Content-Length: 02",
        b"Content-Length:",
        b"Content-Length: +2",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: Chunked ",
        b"Transfer-Encoding: gzip",
        b"Connection: close",
        b"Connection: Keep-Alive, CLOSE",
        b"Connection: keep-alive",
        b"X-Empty:",
        b"X-A: \t b c \t",
        b"x-a: \xe9\xa0",
        b"X-Odd: \x85 \x0b \x00",
        b"X-Bare: a\nX-B: b",
        b"X-Bare: a\rb",
        b" folded",
        b"no colon",
        b"space : x",
        b": nameless",
        b"From : x",
        b"From x",
        b"",
    ]
)
STARTS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 ",
        b"HTTP/1.1 429 Too  Many \xa0",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 204 No",
        b"HTTP/1.1 304 No",
        b"HTTP/1.1 100 Continue",
        b"HTTP/1.1 600 ?",
        b"HTTP/2 200 OK",
        b"HTTP/1.1  200 OK",
    ]
)


@settings(deadline=None, max_examples=500)
@given(
    start=STARTS,
    lines=st.lists(LINES, max_size=4),
    end=st.sampled_from([b"\r\n", b"\n"]),
    method=st.sampled_from(["POST", "HEAD"]),
)
def test_the_fast_parser_agrees_with_http_client(start: bytes, lines: list[bytes], end: bytes, method: str) -> None:
    """For every head that it accepts, unusual bytes included."""
    data = end.join([start, *lines, b"", b"2\r\nok\r\n0\r\n\r\n"])

    class LongWay(RawReply):
        def _read_plain_head(self) -> bool:
            return False

    def outcome(kind: type[RawReply]) -> Any:
        wire = Wire(data)
        answer = kind(wire, method)
        try:
            answer.begin()
            content = b"".join(iter(lambda: b"" if answer.done else answer.read1(), b""))
        except READ_ERRORS as error:
            return type(error)
        facts = (answer.status, answer.reason, answer.fields, answer.length, bool(answer.chunked), answer.will_close)
        return (*facts, answer.reusable, answer.done, content, wire.empty)

    assert outcome(RawReply) == outcome(LongWay)


@pytest.mark.parametrize(
    "data", [reply(b"ok"), chunked(b"ok"), reply(b"", headers=("Connection: keep-alive", "Server: x"))]
)
def test_a_usual_head_is_read_by_the_fast_parser(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the e-mail package."""
    monkeypatch.setattr("http.client.HTTPResponse.begin", None)
    assert read(Wire(data))[0].status == 200


@pytest.mark.parametrize("size", [b"+3", b"-3", b"0x3", b" 3", b"0_3", b"3_", b"3 3", b"", b";", b"f" * 16, b"\xb33"])
def test_an_ambiguous_chunk_size_is_refused(size: bytes) -> None:
    """Python accepts more as a number than HTTP does, and parsers would disagree about the reply's end."""
    for rest in (b"abc\r\n0\r\n\r\n", b"abc\r\n+0\r\n\r\n"):
        with pytest.raises(READ_ERRORS):
            content(CHUNKED + size + b"\r\n" + rest)
    with pytest.raises(READ_ERRORS):
        content(CHUNKED + b"3\r\nabc\r\n" + size + b"\r\n\r\n")


@pytest.mark.parametrize("end", [b"xx", b"\n\n", b"\r\r", b"0\r"])
def test_a_chunk_ends_at_its_announced_size(end: bytes) -> None:
    """The two bytes after it are checked."""
    with pytest.raises(READ_ERRORS):
        content(CHUNKED + b"3\r\nabc" + end + b"0\r\n\r\n")


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_corrupted_replies_raise_only_read_errors(data: st.DataObject) -> None:
    """Whatever bytes are changed, left out or put in, in heads of both kinds and in chunks."""
    raw = bytearray(data.draw(st.sampled_from([chunked(b"abc", b"d" * 300), reply(b"e" * 50, headers=("X: y",))])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(raw), 120)))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    with contextlib.suppress(*READ_ERRORS):
        read(Wire(bytes(raw)))


@settings(deadline=None)
@given(cut=st.integers(0, 200))
def test_every_truncation_is_an_error(cut: int) -> None:
    """Anywhere before a reply's end, its head and the lines after the last chunk included."""
    for data in (reply(b"x" * 50, headers=("X: y",)), chunked(b"x" * 30, b"y" * 20)):
        with pytest.raises(READ_ERRORS):
            content(data[: min(cut, len(data) - 1)])


def test_pieces_are_bounded_and_returned_at_once() -> None:
    """No piece waits for another, and none is larger than requested."""
    data = reply(b"x" * 300_000)
    sizes = [len(piece) for piece in read(Wire(data[:1000], data[1000:]))[1]]
    assert sum(sizes) == 300_000
    assert max(sizes) <= PIECE_BYTES
    assert sizes[0] < 1000

"""Heads of requests and replies: what is refused, and what is left to http.client."""

from __future__ import annotations

import pytest

from cosyclient.transports.http.head import field_lines, parse_head, request_line, text_lines


def test_a_head_is_written_as_given() -> None:
    """Values may hold bytes beyond ASCII."""
    assert request_line("POST", b"/a%20b?q=1") == b"POST /a%20b?q=1 HTTP/1.1\r\n"
    assert text_lines([("Host", "x"), ("X-Empty", ""), ("X", "\xe9")]) == b"Host: x\r\nX-Empty: \r\nX: \xe9\r\n"
    with pytest.raises(ValueError, match="latin-1"):
        text_lines([("X", "\u4f60")])
    assert (
        field_lines([(b"Host", b"x"), (b"X-Empty", b""), (b"X", b"\xe9\t: ")])
        == b"Host: x\r\nX-Empty: \r\nX: \xe9\t: \r\n"
    )


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET /", b"/"),
        ("", b"/"),
        ("GET\r\n", b"/"),
        ("GET", b"/a b"),
        ("GET", b"/\r\nX: 1"),
        ("GÉT", b"/"),
        ("GET", b""),
    ],
)
def test_a_first_line_is_one_line_of_three_words(method: str, target: bytes) -> None:
    """Anything else would be another request."""
    with pytest.raises(ValueError, match="method|ascii"):
        request_line(method, target)


@pytest.mark.parametrize(
    "field",
    [
        (b"X", b"a\r\nY: 1"),
        (b"X", b"a\nY: 1"),
        (b"X", b"a\rY: 1"),
        (b"X", b"a\r\n folded"),
        (b"X", b"a\0"),
        (b"X: a\r\nY", b"1"),
        (b"X ", b"1"),
        (b"X:", b"1"),
        (b"", b"1"),
        (b"\xe9", b"1"),
    ],
)
def test_a_field_is_one_line(field: tuple[bytes, bytes]) -> None:
    """Wherever it stands among others."""
    for fields in ([field], [field, (b"Z", b"1")], [(b"Z", b"1"), field]):
        with pytest.raises(ValueError, match="header field"):
            field_lines(fields)
        with pytest.raises(ValueError, match="header field"):
            text_lines([(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields])


def test_a_plain_head_is_parsed() -> None:
    """What follows it is not read."""
    head = b"HTTP/1.1 429 Too Many\r\nRetry-After: \t3 \r\nX-Empty:\r\nx-a: \xe9:b\r\n\r\n"
    fields = [("Retry-After", "3 "), ("X-Empty", ""), ("x-a", "\xe9:b")]
    assert parse_head(head + b"HTTP/1.1 200 OK\r\n\r\n") == (len(head), 429, "Too Many", fields)
    assert parse_head(b"HTTP/1.1 200\r\n\r\n") == (16, 200, "", [])


@pytest.mark.parametrize("cut", range(40))
def test_an_incomplete_head_is_not_parsed(cut: int) -> None:
    assert parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[:cut]) is None or cut >= 38

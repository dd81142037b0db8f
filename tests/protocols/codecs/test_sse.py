"""Server-sent events: the standard's examples and traps, however the stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyclient.errors import DecodeError
from cosyclient.protocols.codecs.sse import SseEvent, decode_events


def read(body: bytes, size: int = 0, **limits: int) -> list[SseEvent]:
    """Return the events of a body that arrives in pieces of *size* bytes."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)] if size else [body]
    return list(decode_events(pieces, **limits))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7])
@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [SseEvent("message", "YHOO\n+2\n10")]),
        (b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
         [SseEvent("message", "first event", "1"), SseEvent("message", "second event"),
          SseEvent("message", " third event")]),
        (b"data\n\ndata\ndata\n\ndata:", [SseEvent("message", ""), SseEvent("message", "\n"), SseEvent("message", "")]),
        (b"data:test\n\ndata: test\n\n", [SseEvent("message", "test")] * 2),
        (b"event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\n",
         [SseEvent("add", "73857293"), SseEvent("remove", "2153")]),
        (b"\xef\xbb\xbfdata: a\r\n\r\ndata: b\r\rdata: c\n\n",
         [SseEvent("message", "a"), SseEvent("message", "b"), SseEvent("message", "c")]),
        (b"retry: 3000\nunknown: x\nevent: lonely\n\ndata: {}\n\n", [SseEvent("message", "{}")]),
        (b":HTTP_STATUS/200\nid:1\nevent:result\ndata:{\"a\":1}\n\n", [SseEvent("result", '{"a":1}', "1")]),
        (b"id: a\0b\ndata: x\n\n", [SseEvent("message", "x")]),
        (b"data: \xff\n\n", [SseEvent("message", "\N{REPLACEMENT CHARACTER}")]),
        (b"data: [DONE]", [SseEvent("message", "[DONE]")]),
        (b"data: [DONE]\n", [SseEvent("message", "[DONE]")]),
        (b"", []),
        (b"\n\n: nothing\n\n", []),
    ],
)  # fmt: skip
def test_a_stream_is_decoded_by_the_standard(body: bytes, wanted: list[SseEvent], size: int) -> None:
    """An unfinished last event is yielded too, as some servers omit its blank line."""
    assert read(body, size) == wanted


def test_an_event_is_yielded_as_soon_as_it_is_complete() -> None:
    """Without waiting for the next chunk."""
    seen: list[int] = []

    def chunks() -> object:
        for number in range(3):
            seen.append(number)
            yield b"data: %d\r\n\r" % number

    stream = decode_events(chunks())  # type: ignore[arg-type]
    for number in range(3):
        assert next(stream).data == str(number)
        assert seen == list(range(number + 1))


@pytest.mark.parametrize(
    "body",
    [b"data: " + b"x" * 200, b"x" * 200, b": " + b"c" * 200, b"data: xxxxxxxxxx\n" * 20 + b"\n"],
)
def test_lines_and_events_are_bounded(body: bytes) -> None:
    """One without an end does not fill the memory."""
    with pytest.raises(DecodeError, match="more than 100 bytes"):
        read(body, 10, max_event_bytes=100)
    comments = b": ping\n" * 1000
    assert read(comments + b"data: x\n\n", 10, max_event_bytes=100) == [SseEvent("message", "x")]


@given(
    st.lists(st.text(st.characters(blacklist_characters="\r\n\0", blacklist_categories=["Cs"])), max_size=5),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.integers(1, 5),
)
def test_any_text_survives_any_line_end_and_any_cut(texts: list[str], end: str, size: int) -> None:
    """The data read equal the data written."""
    body = "".join(f"data: {text}{end}{end}" for text in texts).encode()
    assert [event.data for event in read(body, size)] == texts

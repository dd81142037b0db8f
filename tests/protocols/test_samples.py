"""Streams of samples: bare, or behind a WAV header that is taken off."""

from __future__ import annotations

import struct

import pytest

from cosyclient.errors import DecodeError
from cosyclient.protocols.base import StreamHead
from cosyclient.protocols.samples import plain
from tests.protocols.wire import pieces
from tests.protocols.wire_openai import unsized, wav

SAMPLES = struct.pack("<100h", *range(100))
SAID = StreamHead(24000)


def read(body: bytes, size: int = 0) -> tuple[StreamHead, bytes]:
    """Return the head and the samples of a stream in pieces of *size* bytes."""
    head, *rest = plain(pieces(body, size), SAID)
    assert isinstance(head, StreamHead)
    return head, b"".join(each for each in rest if isinstance(each, bytes))


@pytest.mark.parametrize("size", [0, 1, 5, 44, 45, 1000])
def test_samples_are_the_same_bare_and_behind_any_header(size: int) -> None:
    """Sizes known or not, chunks before the samples and behind them."""
    file = wav(SAMPLES, 16000)
    listed = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"
    assert read(SAMPLES, size) == (SAID, SAMPLES)
    assert read(file, size) == (StreamHead(16000), SAMPLES)
    assert read(unsized(file), size) == (StreamHead(16000), SAMPLES)
    assert read(file[:36] + listed + file[36:] + listed, size) == (StreamHead(16000), SAMPLES)
    assert read(wav(SAMPLES, 22050, 2), size) == (StreamHead(22050, 2), SAMPLES)
    assert read(b"RIFF" + SAMPLES, size) == (SAID, b"RIFF" + SAMPLES), "four bytes are no file"
    assert read(b"\1\2\3", size) == (SAID, b"\1\2\3")
    assert read(b"", size) == (SAID, b"")


@pytest.mark.parametrize("size", [0, 7])
def test_a_file_cut_short_is_an_error(size: int) -> None:
    """In its header, or where it announced more samples."""
    file = wav(SAMPLES)
    for cut in (12, 30, 43, 44 + 50):
        with pytest.raises(DecodeError, match="truncated wav") as caught:
            read(file[:cut], size)
        assert caught.value.retryable


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (wav(SAMPLES)[:20] + b"\3\0" + wav(SAMPLES)[22:], "only 16-bit PCM"),
        (wav(SAMPLES)[:34] + b"\x20\0" + wav(SAMPLES)[36:], "32-bit"),
        (wav(SAMPLES, 1), "only 16-bit PCM"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0" + SAMPLES, "no usable fmt"),
        (b"RIFF\0\0\0\0WAVEjunk" + struct.pack("<I", 1 << 30) + SAMPLES, "header of more than 65536 bytes"),
    ],
)
def test_what_is_no_file_of_ours_is_an_error(header: bytes, complaint: str) -> None:
    """It is told before the first samples."""
    with pytest.raises(DecodeError, match=complaint):
        read(header)

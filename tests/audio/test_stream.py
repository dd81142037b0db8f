"""`cosyclient.audio.stream`: samples arrive bare or as WAV files, and leave without headers as 16-bit ones."""

from __future__ import annotations

import struct

import pytest

from cosyclient.audio import parse_wav
from cosyclient.audio.format import PcmFormat
from cosyclient.audio.pcm import to_s16
from cosyclient.audio.stream import collect_pcm, strip_headers
from cosyclient.errors import DecodeError
from tests.protocols.wire import pieces
from tests.protocols.wire_openai import unsized, wav

SAMPLES = struct.pack("<100h", *range(100))
ANNOUNCED = PcmFormat(24000)


def read(body: bytes, size: int = 0) -> tuple[PcmFormat, bytes]:
    """Return the format and the samples of a stream in pieces of *size* bytes."""
    pcm_format, *rest = strip_headers(pieces(body, size), ANNOUNCED)
    assert isinstance(pcm_format, PcmFormat)
    return pcm_format, b"".join(each for each in rest if isinstance(each, bytes))


@pytest.mark.parametrize("size", [0, 1, 5, 44, 45, 1000])
def test_bare_samples_and_those_behind_any_header_are_the_same(size: int) -> None:
    """With sizes stated or not, with chunks before the samples and behind them."""
    file = wav(SAMPLES, 16000)
    listed = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"
    assert read(SAMPLES, size) == (ANNOUNCED, SAMPLES)
    assert read(file, size) == (PcmFormat(16000), SAMPLES)
    assert read(unsized(file), size) == (PcmFormat(16000), SAMPLES)
    assert read(file[:36] + listed + file[36:] + listed, size) == (PcmFormat(16000), SAMPLES)
    assert read(wav(SAMPLES, 22050, 2), size) == (PcmFormat(22050, 2), SAMPLES)
    assert read(b"RIFF" + SAMPLES, size) == (ANNOUNCED, b"RIFF" + SAMPLES), "four bytes are no signature"
    assert read(b"\1\2\3", size) == (ANNOUNCED, b"\1\2\3")
    assert list(strip_headers(pieces(b"", size), ANNOUNCED)) == []


@pytest.mark.parametrize("size", [0, 7])
def test_a_truncated_file_is_a_retryable_error(size: int) -> None:
    """In its header, or before the stated number of samples."""
    file = wav(SAMPLES)
    for cut in (12, 30, 43, 44 + 50):
        with pytest.raises(DecodeError, match="truncated wav") as caught:
            read(file[:cut], size)
        assert caught.value.retryable


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (wav(SAMPLES)[:20] + b"\3\0" + wav(SAMPLES)[22:], "16-bit samples of format 0x0003; PCM, float and G.711"),
        (wav(SAMPLES)[:34] + b"\x20\0" + wav(SAMPLES)[36:], "32 bits, 2 bytes a frame"),
        (wav(SAMPLES, 1), "claims 1 channel.s., 1 Hz"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0" + SAMPLES, "no usable fmt"),
        (b"RIFF\0\0\0\0WAVEjunk" + struct.pack("<I", 1 << 30) + SAMPLES, "header of more than 65536 bytes"),
    ],
)
def test_an_unusable_header_is_an_error(header: bytes, complaint: str) -> None:
    """Before the first samples."""
    with pytest.raises(DecodeError, match=complaint):
        read(header)


@pytest.mark.parametrize("size", [0, 1, 3, 7, 45, 1000])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("tag", "bits"), [(1, 8), (1, 16), (1, 24), (3, 32)])
def test_concatenated_files_are_one_stream(size: int, known: bool, tag: int, bits: int) -> None:
    """Wherever the pieces are cut, whatever the kind of samples: all samples come out as 16-bit ones."""
    parts = [bytes((7 * place + part) % 120 for place in range(24 * (9 + part))) for part in range(3)]
    files = [wav_of(tag, bits, each, known) for each in parts]
    files = [file + (b"x" if known and place == 1 else b"") for place, file in enumerate(files)]
    pcm_format, samples = read(b"".join(files), size)
    assert pcm_format == PcmFormat(24000)
    assert samples == b"".join(parse_wav(file).samples for file in files)
    assert samples == b"".join(to_s16(tag, bits, each) for each in parts)


@pytest.mark.parametrize("size", [0, 1, 45])
def test_samples_that_look_like_a_header_are_samples(size: int) -> None:
    """Bytes that begin like a header but do not complete one."""
    samples = b"RIFFRIFF1234WAVRRIFRI" * 7 + b"R"
    assert read(unsized(wav(samples)), size) == (ANNOUNCED, samples)
    # An incomplete sample at the end is dropped.
    assert read(unsized(wav(samples + b"x")), size) == (ANNOUNCED, samples)


@pytest.mark.parametrize("size", [0, 1, 45])
def test_concatenated_files_that_differ_are_an_error(size: int) -> None:
    """After the samples of the first have been yielded."""
    with pytest.raises(DecodeError, match="changes its rate or its samples in the middle") as caught:
        read(wav(SAMPLES) + wav(SAMPLES, 16000), size)
    assert not caught.value.endpoint_fault


@pytest.mark.parametrize("size", [0x7FFFFFFF, 0x7FFFF000, 2_000_000_000, 0xFFFFFFFF - 36])
def test_placeholders_of_unknown_sizes_are_ignored(size: int) -> None:
    """All bytes that follow are samples."""
    file = wav(SAMPLES)
    assert read(file[:40] + struct.pack("<I", size) + file[44:], 100) == (ANNOUNCED, SAMPLES)


def test_samples_are_collected_with_their_format() -> None:
    """The announced one where the stream yields none."""
    assert collect_pcm([PcmFormat(8000, 2), b"ab", b"cd"], ANNOUNCED) == (PcmFormat(8000, 2), b"abcd")
    assert collect_pcm([b"ab"], ANNOUNCED) == (ANNOUNCED, b"ab")
    assert collect_pcm([], ANNOUNCED) == (ANNOUNCED, b"")


def wav_of(tag: int, bits: int, samples: bytes, known: bool) -> bytes:
    """Return a WAV file at 24,000 Hz, its sizes stated or not."""
    block = bits // 8
    fmt = struct.pack("<HHIIHH", tag, 1, 24000, 24000 * block, block, bits)
    sizes = (36 + len(samples), len(samples)) if known else (0xFFFFFFFF, 0xFFFFFFFF)
    head = b"RIFF" + struct.pack("<I", sizes[0]) + b"WAVEfmt " + struct.pack("<I", 16) + fmt
    return head + b"data" + struct.pack("<I", sizes[1]) + samples

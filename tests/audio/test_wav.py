"""`cosyclient.audio.wav`: every layout is read, every truncation is noticed, no sample is lost."""

from __future__ import annotations

import io
import struct
import wave

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.audio import AudioInfo, check, inspect, parse_wav, pcm, wav_bytes
from cosyclient.audio.wav import PLAIN_HEADER_BYTES, parse_layout, plain_format
from cosyclient.errors import ConfigurationError, DecodeError
from tests.audio.files import EXTENSIBLE, SAMPLES, chunk, encoded, fmt, riff


@given(st.binary(max_size=400), st.sampled_from([8000, 22050, 24000, 48000]), st.integers(1, 3))
@settings(deadline=None)
def test_samples_survive_writing_and_reading(data: bytes, rate: int, channels: int) -> None:
    """Every sample, and the standard library writes the same bytes."""
    samples = data[: len(data) // (2 * channels) * 2 * channels]
    file = wav_bytes(samples, rate, channels)
    theirs = io.BytesIO()
    with wave.open(theirs, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(samples)
    assert file == theirs.getvalue()
    info = parse_wav(file)
    assert (info.samples, info.sample_rate, info.channels) == (samples, rate, channels)
    if samples:
        assert check("wav", file, 1) == AudioInfo(rate, channels, info.duration)


@pytest.mark.parametrize(
    "file",
    [
        riff(fmt(), chunk(b"data", SAMPLES)),
        riff(chunk(b"LIST", b"INFOodd"), fmt(), chunk(b"data", SAMPLES)),
        riff(chunk(b"JUNK", bytes(28)), fmt(), chunk(b"fact", bytes(4)), chunk(b"data", SAMPLES), chunk(b"LIST", b"x")),
        riff(EXTENSIBLE, chunk(b"data", SAMPLES)),
        riff(fmt(), chunk(b"data", SAMPLES, 0xFFFFFFFF), size=0xFFFFFFFF),
        riff(fmt(), chunk(b"data", SAMPLES, 0), size=0),
        riff(fmt(), chunk(b"data", SAMPLES, 0), size=36),
        riff(fmt(), chunk(b"data", SAMPLES, 0xFFFFFFFF), size=0xFFFFFFFF) + b"\x7f",
        riff(fmt(), chunk(b"data", SAMPLES), size=7),
        riff(fmt(), chunk(b"data", SAMPLES)) + b"trailing",
        riff(fmt(), chunk(b"data", SAMPLES), chunk(b"LIST", b"cut off", 5000)),
    ],
    ids=[
        "plain",
        "odd LIST first",
        "fmt not first",
        "extensible",
        "streamed ffff",
        "streamed 0",
        "streamed 0, outer size of an empty file",
        "streamed, odd byte at the end",
        "outer size wrong",
        "trailing bytes",
        "what follows the samples is cut",
    ],
)
def test_samples_are_found_in_every_layout(file: bytes) -> None:
    """Wherever the writer put them."""
    assert parse_wav(file).samples == SAMPLES
    assert check("wav", file, 0) == AudioInfo(24000, 1, 5 / 24000)


@pytest.mark.parametrize(
    ("file", "match", "retryable"),
    [
        (riff(fmt(), chunk(b"data", SAMPLES, 5000)), "truncated wav, 5000 bytes of samples announced, 10 there", True),
        (riff(fmt()), "truncated wav, 36 bytes end before the samples begin", True),
        (b"RIFF", "truncated wav, 4 bytes", True),
        (b"RIFX" + bytes(40), "got unknown bytes; if they are samples without a header, ask for format='pcm'", True),
        (bytes(range(256)), "got unknown bytes", True),
        (b"RIFF\x10\0\0\0AVI LIST", "another RIFF file", False),
        (b"ID3\x04" + bytes(40), "asked for wav, got mp3", False),
        (b"\xff\xfb\x90\xc4" + bytes(40), "asked for wav, got mp3", False),
        (b"OggS" + bytes(40), "asked for wav, got ogg", False),
        (b"fLaC" + bytes(40), "asked for wav, got flac", False),
        (riff(chunk(b"data", SAMPLES), fmt()), "no usable fmt chunk", False),
        (riff(chunk(b"fmt ", bytes(8)), chunk(b"data", SAMPLES)), "no usable fmt chunk", False),
        (riff(fmt(channels=0), chunk(b"data", SAMPLES)), "WAV claims 0 channel", False),
        (riff(fmt(rate=0), chunk(b"data", SAMPLES)), "0 Hz", False),
        (riff(fmt(bits=0), chunk(b"data", SAMPLES)), "0 bits", False),
        (riff(fmt(block=3), chunk(b"data", SAMPLES)), "3 bytes a frame", False),
    ],
)
def test_each_fault_of_a_wav_file_has_its_message(file: bytes, match: str, retryable: bool) -> None:
    """Truncated and unknown bytes are retryable, another format is not."""
    for read in (parse_wav, lambda data: check("wav", data, 24000)):
        with pytest.raises(DecodeError, match=match) as caught:
            read(file)
        assert caught.value.retryable is retryable


@pytest.mark.parametrize(
    "file",
    [
        riff(fmt(), chunk(b"data", b"")),
        riff(fmt(), chunk(b"data", b"", 0xFFFFFFFF), size=0xFFFFFFFF),
        riff(fmt(), chunk(b"data", b"", 0xFFFFFFFF), size=0xFFFFFFFF) + b"x",
        riff(fmt(), chunk(b"data", b"", 0), chunk(b"LIST", b"title")),
    ],
)
def test_a_wav_file_without_samples_parses_but_fails_the_check(file: bytes) -> None:
    """`parse_wav` takes it; `check` raises a retryable error."""
    assert parse_wav(file).samples == b""
    for nothing in (file, b""):
        with pytest.raises(DecodeError, match="empty wav") as caught:
            check("wav", nothing, 24000)
        assert caught.value.retryable


@pytest.mark.parametrize(
    "file", [wav_bytes(SAMPLES, 24000), riff(chunk(b"LIST", b"odd"), fmt(), chunk(b"data", SAMPLES))]
)
def test_every_truncation_of_a_wav_file_is_a_retryable_error(file: bytes) -> None:
    """At any byte."""
    for cut in range(len(file)):
        with pytest.raises(DecodeError) as caught:
            check("wav", file[:cut], 24000)
        assert caught.value.retryable


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("numpy", [True, False])
def test_every_kind_of_samples_that_passes_the_check_is_converted_to_16_bits(
    container: str, subtype: str, channels: int, numpy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like soundfile converts them, except for the rounding of the last bit."""
    file = encoded(container, channels=channels, subtype=subtype)
    assert check("wav", file, 0) == AudioInfo(24000, channels, 32880 / 24000)
    if not numpy:
        monkeypatch.setattr(pcm, "import_optional", lambda name: None)
    found = np.frombuffer(parse_wav(file).samples, "<i2").reshape(-1, channels)
    theirs = soundfile.read(io.BytesIO(file), dtype="float64", always_2d=True)[0] * 32768
    assert np.abs(found - theirs).max() < 1
    assert np.abs(found).max() > 5000


def test_the_extremes_of_every_kind_are_the_extremes_of_16_bits() -> None:
    """Floats beyond full scale are clipped, infinite ones are an error."""
    for tag, bits, low, high in (
        (1, 8, b"\0", b"\xff"),
        (1, 24, b"\0\0\x80", b"\xff\xff\x7f"),
        (1, 32, b"\0\0\0\x80", b"\xff\xff\xff\x7f"),
        (3, 32, struct.pack("<f", -7.0), struct.pack("<f", 3.4e38)),
        (3, 64, struct.pack("<d", -1.0), struct.pack("<d", 1e300)),
    ):
        file = riff(fmt(tag, bits=bits), chunk(b"data", low + high))
        assert struct.unpack("<2h", parse_wav(file).samples) == (-32768, 32767 if bits > 8 else 32512)
    with pytest.raises(DecodeError, match="a sample that is no number") as caught:
        parse_wav(riff(fmt(3, bits=32), chunk(b"data", struct.pack("<f", float("inf")))))
    assert caught.value.retryable


@pytest.mark.parametrize(("tag", "bits"), [(0x0002, 4), (0x0055, 8), (3, 16), (1, 40), (7, 16)])
def test_samples_that_cannot_be_converted_do_not_pass_the_check(tag: int, bits: int) -> None:
    """The error is neither retryable nor the endpoint's fault: another attempt would bring the same."""
    for read in (parse_wav, lambda data: check("wav", data, 24000)):
        with pytest.raises(DecodeError, match="PCM, float and G.711 are supported") as caught:
            read(riff(fmt(tag, bits=bits), chunk(b"data", bytes(120))))
        assert not caught.value.retryable
        assert not caught.value.endpoint_fault


# What writers that do not know their sizes yet leave: sox, ffmpeg, Python's wave, and what was met in replies.
PLACEHOLDERS = (
    0xFFFFFFFF,
    0xFFFFFFFF - 36,
    0xFFFFFFFF - 44,
    0x7FFFFFFF,
    0x7FFFFFFF - 36,
    0x7FFFF000,
    0x80000000,
    2_000_000_000,
)


@pytest.mark.parametrize("size", [*PLACEHOLDERS, 0])
@pytest.mark.parametrize("outer", [*PLACEHOLDERS, 0, 36])
def test_placeholders_of_unknown_sizes_are_ignored(size: int, outer: int) -> None:
    """All bytes that follow are samples, and the file is rewritten with an accurate header."""
    samples = SAMPLES * 100
    for shape in (fmt(), EXTENSIBLE):
        file = riff(shape, chunk(b"data", samples, size), size=outer)
        found = inspect("wav", file, 0)
        assert found.info == AudioInfo(24000, 1, 500 / 24000)
        assert not found.states_length
        assert parse_wav(file).samples == samples
        assert soundfile.info(io.BytesIO(found.data)).frames == 500
        assert found.data == riff(shape, chunk(b"data", samples))
        assert inspect("wav", found.data, 0) == (found.info, found.data, True, False)


def test_a_file_with_an_accurate_header_is_not_changed() -> None:
    """Nor are its other chunks; a wrong outer size is corrected."""
    file = riff(chunk(b"LIST", b"INFOodd"), EXTENSIBLE, chunk(b"data", SAMPLES), chunk(b"cue ", bytes(4)))
    assert inspect("wav", file, 0).data is file
    assert inspect("wav", file + b"trailing", 0).data == file + b"trailing"
    short = riff(fmt(), chunk(b"data", SAMPLES), size=7)
    assert inspect("wav", short, 0).data == riff(fmt(), chunk(b"data", SAMPLES))


@pytest.mark.parametrize("between", [b"", b"\0", chunk(b"LIST", b"INFOx"), b"\r\n"])
@pytest.mark.parametrize("size", [None, 0xFFFFFFFF, 0, 0x7FFFF000])
@pytest.mark.parametrize("kind", [(1, 16), (1, 24), (3, 32)])
def test_concatenated_files_become_one_file(between: bytes, size: int | None, kind: tuple[int, int]) -> None:
    """As sent by services that make a file of every sentence: no sample is lost or added."""
    tag, bits = kind
    rng = np.random.default_rng(7)
    parts = [bytes(rng.integers(0, 64, 24 * count, np.uint8)) for count in (400, 1, 399)]
    if size is not None:
        between = b""
    file = between.join(riff(fmt(tag, bits=bits), chunk(b"data", each, size), size=size) for each in parts)
    found = inspect("wav", file, 0)
    assert found.info.duration == pytest.approx(8 * 24 * 800 / bits / 24000)
    assert found.states_length is (size is None)
    whole = riff(fmt(tag, bits=bits), chunk(b"data", b"".join(parts)))
    assert found.data == whole
    assert parse_wav(file) == parse_wav(whole)


def test_concatenated_files_that_differ_are_an_error() -> None:
    """One sample rate would be wrong for the other; another attempt would bring the same."""
    for other in (fmt(rate=16000), fmt(channels=2), fmt(tag=3, bits=32)):
        file = riff(fmt(), chunk(b"data", SAMPLES)) + riff(other, chunk(b"data", bytes(40)))
        with pytest.raises(DecodeError, match="WAV files in one that differ, 24000 Hz with 1 channel") as caught:
            check("wav", file, 0)
        assert (caught.value.retryable, caught.value.endpoint_fault) == (False, False)
    cut = riff(fmt(), chunk(b"data", SAMPLES)) * 2
    with pytest.raises(DecodeError, match="truncated wav"):
        check("wav", cut[:-2], 0)
    with pytest.raises(DecodeError, match="truncated wav"):
        check("wav", cut[:80], 0)


def test_incomplete_frames_and_four_gigabytes_are_not_written() -> None:
    """Nor rates and numbers of channels that a header cannot hold."""

    class Endless(bytes):
        def __len__(self) -> int:
            return 1 << 32

    with pytest.raises(DecodeError, match="3 bytes of samples end inside a frame of 2"):
        wav_bytes(b"abc", 24000)
    with pytest.raises(ConfigurationError, match="at most 4 GiB"):
        wav_bytes(Endless(), 24000)
    for rate, channels in ((24000, 0), (0, 1), (1 << 32, 1), (24000, 1 << 15)):
        with pytest.raises(ConfigurationError, match=f"at {rate} Hz with {channels} channel"):
            wav_bytes(b"", rate, channels)


def test_the_repr_shows_no_samples() -> None:
    """Audio does not reach a log through a repr."""
    assert repr(parse_wav(wav_bytes(bytes(48000), 24000))) == "<WavInfo 1.000 s at 24000 Hz, 1 channel(s)>"


@pytest.mark.parametrize(("channels", "rate"), [(1, 999), (1, 768_001), (1, 0xFFFFFFFF), (9, 24000), (0xFFFF, 24000)])
def test_absurd_rates_and_channels_of_a_wav_file_are_an_error(channels: int, rate: int) -> None:
    """A rewritten header could not hold them."""
    block = 2 * channels & 0xFFFF
    fmt = struct.pack("<HHIIHH", 1, channels, rate, 0, block, 16)
    for read in (lambda data: check("wav", data, 24000), parse_wav):
        with pytest.raises(DecodeError, match="WAV claims"):
            read(riff(chunk(b"fmt ", fmt), chunk(b"data", bytes(block))))


@given(
    st.sampled_from([(1, 16), (1, 8), (1, 24), (3, 32), (2, 16)]),
    st.integers(0, 5),
    st.integers(0, 60),
    st.one_of(st.none(), st.integers(0, 255)),
    st.sampled_from([b"", b"\0", b"RIFF....WAVE", riff(fmt(), chunk(b"data", SAMPLES))]),
)
@settings(deadline=None)
def test_a_plain_file_is_what_the_layout_says(
    kind: tuple[int, int], samples: int, place: int, value: int | None, more: bytes
) -> None:
    """Whatever byte is changed and whatever follows: the same format or error, all bytes behind the header samples."""
    tag, bits = kind
    changed = bytearray(riff(fmt(tag, bits=bits), chunk(b"data", SAMPLES[:samples])) + more)
    if value is not None:
        changed[place % len(changed)] = value
    data = bytes(changed)
    found: object = None
    fault = expected = ""
    try:
        found = plain_format(data)
    except DecodeError as error:
        fault = repr(error)
    try:
        layout: object = parse_layout(data)
    except DecodeError as error:
        layout, expected = None, repr(error)
    if fault:
        assert fault == expected
    elif found is not None:
        assert layout == (found, [(PLAIN_HEADER_BYTES, len(data))], (20, 36), True, True)
    elif value is None and not more and samples and tag != 2:
        assert samples * 8 % bits or samples % 2

"""Audio framing: every layout in use is read, every cut is noticed, no sample is lost."""

from __future__ import annotations

import io
import struct
import wave
from functools import cache
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient import audio
from cosyclient.audio import AudioInfo, check, duration, inspect, parse_wav, pcm, wav_bytes
from cosyclient.audio.mp3 import frame_at
from cosyclient.errors import ConfigurationError, DecodeError


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """Return one RIFF chunk, padded to an even length; *size* lies about it."""
    return name + struct.pack("<I", len(content) if size is None else size) + content + b"\0" * (len(content) & 1)


def fmt(tag: int = 1, channels: int = 1, rate: int = 24000, bits: int = 16, block: int | None = None) -> bytes:
    """Return a fmt chunk."""
    block = channels * ((bits + 7) // 8) if block is None else block
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits))


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    """Return a WAV file of these chunks; *size* lies about the whole."""
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content) if size is None else size) + content


@cache
def encoded(format: str, rate: int = 24000, channels: int = 1, seconds: float = 1.37, **how: Any) -> bytes:
    """Return a tone as soundfile writes it."""
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)
    file = io.BytesIO()
    soundfile.write(file, np.stack([tone] * channels, 1), rate, format=format, **how)
    return file.getvalue()


def opus(rate: int = 24000, channels: int = 1, seconds: float = 1.37) -> bytes:
    """Return a tone as Ogg Opus."""
    return encoded("OGG", rate, channels, seconds, subtype="OPUS")


SAMPLES = struct.pack("<5h", 1, -2, 3, -4, 32767)
EXTENSIBLE = chunk(
    b"fmt ",
    struct.pack("<HHIIHHHHI", 0xFFFE, 1, 24000, 48000, 2, 16, 22, 16, 4)
    + bytes.fromhex("0100000000001000800000aa00389b71"),
)


# --- WAV ---


@given(st.binary(max_size=400), st.sampled_from([8000, 22050, 24000, 48000]), st.integers(1, 3))
@settings(deadline=None)
def test_wav_goes_there_and_back(data: bytes, rate: int, channels: int) -> None:
    """Every sample survives, and the standard library writes and reads the same."""
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
def test_wav_layouts(file: bytes) -> None:
    """The samples are found wherever the writer put them."""
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
def test_what_is_wrong_with_a_wav_is_said(file: bytes, match: str, retryable: bool) -> None:
    """Cut off or empty may be tried again; plainly another format will not get better."""
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
def test_a_wav_without_samples_is_a_file_but_no_speech(file: bytes) -> None:
    """It can be parsed; as an answer to a text it may be asked for again."""
    assert parse_wav(file).samples == b""
    for nothing in (file, b""):
        with pytest.raises(DecodeError, match="empty wav") as caught:
            check("wav", nothing, 24000)
        assert caught.value.retryable


@pytest.mark.parametrize(
    "file", [wav_bytes(SAMPLES, 24000), riff(chunk(b"LIST", b"odd"), fmt(), chunk(b"data", SAMPLES))]
)
def test_every_cut_of_a_wav_is_noticed(file: bytes) -> None:
    """A cut anywhere is an error that may be tried again."""
    for cut in range(len(file)):
        with pytest.raises(DecodeError) as caught:
            check("wav", file[:cut], 24000)
        assert caught.value.retryable


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("numpy", [True, False])
def test_every_kind_of_samples_that_is_taken_for_speech_can_be_had_as_16_bit_ones(
    container: str, subtype: str, channels: int, numpy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever `check` lets through, `parse_wav` gives, as soundfile does but for the rounding of the last bit."""
    file = encoded(container, channels=channels, subtype=subtype)
    assert check("wav", file, 0) == AudioInfo(24000, channels, 32880 / 24000)
    if not numpy:
        monkeypatch.setattr(pcm, "import_optional", lambda name: None)
    found = np.frombuffer(parse_wav(file).samples, "<i2").reshape(-1, channels)
    theirs = soundfile.read(io.BytesIO(file), dtype="float64", always_2d=True)[0] * 32768
    assert np.abs(found - theirs).max() < 1
    assert np.abs(found).max() > 5000


def test_the_ends_of_every_kind_are_the_ends_of_16_bits() -> None:
    """Too loud is as loud as can be; what is no number is no speech."""
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
def test_what_cannot_be_had_as_samples_is_not_taken_for_speech_either(tag: int, bits: int) -> None:
    """Better told at once than when it is to be used; asking again would bring the same."""
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
def test_a_size_that_nobody_can_have_known_is_none(size: int, outer: int) -> None:
    """The samples are what is there, and the file is given a header that is true."""
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


def test_a_file_whose_header_is_true_is_left_as_it_is() -> None:
    """Its other chunks too; only an outer size that is wrong is mended."""
    file = riff(chunk(b"LIST", b"INFOodd"), EXTENSIBLE, chunk(b"data", SAMPLES), chunk(b"cue ", bytes(4)))
    assert inspect("wav", file, 0).data is file
    assert inspect("wav", file + b"trailing", 0).data == file + b"trailing"
    short = riff(fmt(), chunk(b"data", SAMPLES), size=7)
    assert inspect("wav", short, 0).data == riff(fmt(), chunk(b"data", SAMPLES))


@pytest.mark.parametrize("between", [b"", b"\0", chunk(b"LIST", b"INFOx"), b"\r\n"])
@pytest.mark.parametrize("size", [None, 0xFFFFFFFF, 0, 0x7FFFF000])
@pytest.mark.parametrize("kind", [(1, 16), (1, 24), (3, 32)])
def test_files_one_after_the_other_are_joined(between: bytes, size: int | None, kind: tuple[int, int]) -> None:
    """As services send them that make a file of every sentence: not a sample is lost, none is added."""
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


def test_files_that_do_not_agree_are_not_joined() -> None:
    """One rate would be wrong for the other; the service will send them so again."""
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


def test_a_wav_is_not_made_of_half_samples_or_of_four_gigabytes() -> None:
    """What cannot be framed is refused."""

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
    """Audio never reaches a log by way of a repr."""
    assert repr(parse_wav(wav_bytes(bytes(48000), 24000))) == "<WavInfo 1.000 s at 24000 Hz, 1 channel(s)>"


# --- PCM ---


def test_pcm_is_counted() -> None:
    """Raw samples say nothing, so the caller's rate and channels stand."""
    assert check("pcm", bytes(48000), 24000) == AudioInfo(24000, 1, 1.0)
    assert check("pcm", bytes(48000), 24000, 2) == AudioInfo(24000, 2, 0.5)
    assert duration("pcm", bytes(48000), 8000) == 3.0


@pytest.mark.parametrize(
    ("data", "match", "retryable"),
    [
        (b"", "empty pcm", True),
        (b"abc", "pcm of 3 bytes ends inside a frame of 2", True),
        (wav_bytes(SAMPLES, 24000), "asked for pcm, got wav", False),
        (b"OggS" + bytes(4), "asked for pcm, got ogg", False),
    ],
)
def test_what_is_wrong_with_pcm_is_said(data: bytes, match: str, retryable: bool) -> None:
    """Half a sample, or a file that brought its own header."""
    with pytest.raises(DecodeError, match=match) as caught:
        check("pcm", data, 24000)
    assert caught.value.retryable is retryable


@pytest.fixture(params=["numpy", "plain"])
def _with_and_without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "plain":
        monkeypatch.setattr(pcm, "import_optional", lambda name: None)


@pytest.mark.usefixtures("_with_and_without")
def test_every_sample_survives_both_ways() -> None:
    """All 65,536 of them."""
    every = struct.pack("<65536h", *range(-32768, 32768))
    assert pcm.float32_to_s16(pcm.s16_to_float32(every)) == every


@pytest.mark.usefixtures("_with_and_without")
def test_what_is_too_loud_is_clipped_and_what_is_no_number_refused() -> None:
    """A wrapped sample is a crack; a NaN is a model gone wrong."""
    assert pcm.float32_to_s16(struct.pack("<5f", 1.0, 1.5, -1.0, -7.0, 0.0)) == struct.pack(
        "<5h", 32767, 32767, -32768, -32768, 0
    )
    for wrong in (float("nan"), float("inf"), float("-inf")):
        with pytest.raises(DecodeError, match="no number"):
            pcm.float32_to_s16(struct.pack("<2f", 0.0, wrong))
    with pytest.raises(DecodeError, match="inside a sample"):
        pcm.float32_to_s16(bytes(6))
    assert pcm.float32_to_s16(b"") == b""


# --- Opus and MP3 ---


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_opus_length(rate: int, channels: int) -> None:
    """The last granule position less the pre-skip, at 48 kHz whatever the input was."""
    info = check("opus", opus(rate, channels), rate)
    assert (info.sample_rate, info.channels) == (rate, channels)
    assert info.duration == pytest.approx(1.37)
    assert check("opus", opus(rate, channels), 22050) == info


def test_an_opus_file_may_leave_its_rate_open() -> None:
    """Then the caller's stands."""
    head = HEAD[:12] + bytes(4) + HEAD[16:]
    assert check("opus", page(2, 0, head) + page(4, 5112, b"x"), 22050) == AudioInfo(22050, 1, 0.1)


@pytest.mark.parametrize("granule", [1 << 40, (1 << 63) - 1])
def test_an_opus_file_is_no_longer_than_its_bytes(granule: int) -> None:
    """Whatever a page says of where it ends."""
    with pytest.raises(DecodeError, match="claims") as caught:
        check("opus", page(2, 0, HEAD) + page(4, granule, b"x"), 24000)
    assert caught.value.retryable


@pytest.mark.parametrize("input_rate", [1, 999, 768_001, 0xFFFFFFFF])
def test_an_opus_file_has_no_absurd_rate(input_rate: int) -> None:
    """It is what the encoder says it was fed, and nothing checks that."""
    head = HEAD[:12] + struct.pack("<I", input_rate) + HEAD[16:]
    assert check("opus", page(2, 0, head) + page(4, 5112, b"x"), 22050).sample_rate == 22050


@pytest.mark.parametrize(("channels", "rate"), [(1, 999), (1, 768_001), (1, 0xFFFFFFFF), (9, 24000), (0xFFFF, 24000)])
def test_a_wav_file_has_no_absurd_rate_or_channels(channels: int, rate: int) -> None:
    """No header of ours could say them again."""
    block = 2 * channels & 0xFFFF
    fmt = struct.pack("<HHIIHH", 1, channels, rate, 0, block, 16)
    for read in (lambda data: check("wav", data, 24000), parse_wav):
        with pytest.raises(DecodeError, match="WAV claims"):
            read(riff(chunk(b"fmt ", fmt), chunk(b"data", bytes(block))))


def test_chained_opus_is_added_up() -> None:
    """Files joined byte by byte are a legal chain."""
    assert duration("opus", opus(seconds=1.0) + opus(seconds=0.5), 24000) == pytest.approx(1.5)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_length(rate: int, channels: int) -> None:
    """MPEG 1, 2 and 2.5; encoder delay and padding are not sound."""
    info = check("mp3", encoded("MP3", rate, channels), 0)
    assert (info.sample_rate, info.channels) == (rate, channels)
    assert info.duration == pytest.approx(1.37, abs=0.001)


def without_info(file: bytes) -> bytes:
    """Return an MP3 without its Xing frame, as a streaming encoder writes it."""
    first = frame_at(file, 0)
    assert first is not None
    return file[first.size :]


def bare_mp3(rate: int = 24000) -> bytes:
    """Return a tone as a streaming encoder writes it."""
    return without_info(encoded("MP3", rate))


@pytest.mark.parametrize(
    "file",
    [
        bare_mp3(),
        b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + bare_mp3(),
        b"ID3\x04\0\x10\0\0\0\x0a" + bytes(20) + bare_mp3(),
        bytes(300) + bare_mp3(),
        bare_mp3() + b"TAG" + bytes(125),
        bare_mp3() + b"\xff\xfb" + bytes(10),
    ],
    ids=["bare", "ID3v2", "ID3v2 with footer", "padding first", "ID3v1", "junk at the end"],
)
def test_mp3_without_an_announced_length_is_walked(file: bytes) -> None:
    """Tags before and after are no sound; each frame is 24 ms at 24 kHz, delay included."""
    length = duration("mp3", file, 0)
    assert length is not None
    assert 1.37 <= length <= 1.37 + 0.13


@pytest.mark.parametrize("odd", [None, 1, 5, 9])
@pytest.mark.parametrize("rest", [b"", b"TAG" + bytes(125), b"\xff"])
def test_mp3_frames_count_whether_their_headers_are_alike_or_not(odd: int | None, rest: bytes) -> None:
    """Ten frames of 24 ms are ten, seen at once or one by one; without the last byte they are not whole."""
    frames = [b"\xff\xf3\x54" + (b"\xc0" if place == odd else b"\xc4") + bytes(116) for place in range(10)]
    file = b"".join(frames) + rest
    assert duration("mp3", file, 0) == pytest.approx(0.24)
    with pytest.raises(DecodeError, match="truncated mp3, a frame ends at byte 1200, 1199 there"):
        check("mp3", b"".join(frames)[:-1], 0)


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("between", [b"", b"ID3\x04\0\0\0\0\x01\x00" + bytes(128), b"TAG" + bytes(125)])
@pytest.mark.parametrize("after", [b"", b"ID3\x03\0\0\0\0\0\x0a" + bytes(10), b"TAG" + bytes(125)])
def test_mp3_files_one_after_the_other_are_added_up(announced: bool, between: bytes, after: bytes) -> None:
    """Tagged or not, each with a frame that announces its own length or without: all are heard, so all count."""
    parts = [encoded("MP3", seconds=seconds) for seconds in (1.37, 0.5, 2.0)]
    parts = parts if announced else [without_info(each) for each in parts]
    each = [duration("mp3", part, 0) or 0.0 for part in parts]
    info = check("mp3", between + between.join(parts) + after, 0)
    assert info.duration == pytest.approx(sum(each))
    with pytest.raises(DecodeError, match="truncated mp3"):
        check("mp3", between.join(parts)[:-1], 0)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("how", [("MP3", "MPEG_LAYER_III", "mp3"), ("OGG", "OPUS", "opus"), ("WAV", "FLOAT", "wav")])
def test_silence_is_known_in_every_format(rate: int, channels: int, how: tuple[str, str, str]) -> None:
    """From a tone, from noise next to nothing, and from a word after two seconds of pause."""
    container, subtype, format = how
    if format == "opus" and rate in (22050, 44100):
        rate = 24000
    rng = np.random.default_rng(3)
    sounds = {
        "silence": np.zeros(3 * rate),
        "tone": 0.3 * np.sin(2 * np.pi * 220 * np.arange(3 * rate) / rate),
        "faint": 2e-4 * rng.standard_normal(3 * rate),
        "late": np.concatenate([np.zeros(2 * rate), 0.1 * rng.standard_normal(rate // 4)]),
        "early": np.concatenate([0.1 * rng.standard_normal(rate // 4), np.zeros(2 * rate)]),
        "short": np.zeros(200),
    }
    for name, samples in sounds.items():
        file = io.BytesIO()
        soundfile.write(file, np.stack([samples] * channels, 1), rate, format=container, subtype=subtype)
        assert inspect(format, file.getvalue(), rate).is_silent is (name == "silence"), name
    assert inspect(format, audio.silence(format, rate, 1.0), rate).is_silent


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("format", ["wav", "pcm", "mp3", "opus"])
def test_our_own_silence_is_whole_audio(format: str, rate: int) -> None:
    """Other people's decoders take it."""
    made = audio.silence(format, rate, 0.3)
    info = check(format, made, rate)
    assert (info.sample_rate, info.channels) == (rate, 1)
    assert info.duration == pytest.approx(0.3, abs=0.08)
    if format != "pcm":
        heard, _ = soundfile.read(io.BytesIO(made))
        assert np.abs(heard).max() < 1e-9
        assert len(heard)


def test_free_format_mp3_has_no_known_length() -> None:
    """Frames of unannounced size cannot be walked, yet they are MP3."""
    assert check("mp3", b"\xff\xfb\x00\xc4" + bytes(2000), 0) == AudioInfo(44100, 1, None)


@pytest.mark.parametrize(
    ("format", "file"), [("opus", opus()), ("mp3", encoded("MP3")), ("mp3", encoded("MP3", 44100))]
)
def test_every_cut_of_a_compressed_file_is_noticed(format: str, file: bytes) -> None:
    """A cut anywhere is an error that may be tried again, between two pages or frames too."""
    for cut in range(0, len(file), 1 if len(file) < 4000 else 7):
        with pytest.raises(DecodeError) as caught:
            check(format, file[:cut], 24000)
        assert caught.value.retryable, cut


def page(flags: int, granule: int, body: bytes) -> bytes:
    """Return one Ogg page."""
    table = bytes([255] * (len(body) // 255) + [len(body) % 255])
    return b"OggS" + struct.pack("<BBqIIIB", 0, flags, granule, 1, 0, 0, len(table)) + table + body


HEAD = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 312, 24000, 0, 0)


@pytest.mark.parametrize(
    ("format", "data", "match", "retryable"),
    [
        ("opus", page(2, 0, HEAD) + page(0, 48312, b"x"), "not marked as the end of the stream", True),
        ("opus", page(2, 0, HEAD) + page(4, 312, b"x"), "empty opus", True),
        ("opus", page(2, 0, HEAD) + page(4, -1, b"x"), "empty opus", True),
        ("opus", page(0, 48000, b"x") + page(4, 48000, b"x"), "empty opus", True),
        ("opus", page(2, 0, HEAD) + b"noise", "no Ogg page at byte", True),
        ("opus", page(2, 0, b"\x01vorbis" + bytes(22)), "another codec in Ogg", False),
        ("opus", b"ID3\x03" + bytes(50), "asked for opus, got mp3", False),
        ("opus", bytes(50), "got unknown bytes", True),
        ("mp3", bytes(5000), "got unknown bytes", True),
        ("mp3", b"ID3\x04\0\0\0\0\x7f\x7f" + bytes(50), "its ID3 tag takes 16393 bytes, 60 there", True),
        ("mp3", wav_bytes(SAMPLES, 24000), "asked for mp3, got wav", False),
        ("mp3", wav_bytes(SAMPLES * 9000, 24000), "asked for mp3, got wav", False),
        ("opus", wav_bytes(SAMPLES, 24000), "asked for opus, got wav", False),
        ("mp3", opus(), "asked for mp3, got ogg", False),
        ("wav", b"\0\0\0\x20ftypM4A " + bytes(50), "asked for wav, got mp4", False),
        ("wav", bare_mp3(), "asked for wav, got mp3", False),
        ("opus", page(2, 0, HEAD) + page(4, 1 << 55, b"x"), r"claims 7.51e\+11 s", True),
        ("flac", b"fLaC", "format 'flac' is not one of wav, pcm, mp3, opus", False),
    ],
)
def test_what_is_wrong_with_compressed_audio_is_said(format: str, data: bytes, match: str, retryable: bool) -> None:
    """Each fault has its message."""
    with pytest.raises(DecodeError, match=match) as caught:
        check(format, data, 24000)
    assert caught.value.retryable is retryable
    assert duration(format, data, 24000) is None


@given(
    st.sampled_from(list(audio.MEDIA_TYPES)), st.binary(max_size=300), st.sampled_from([b"", b"RIFF", b"OggS", b"ID3"])
)
@settings(deadline=None)
def test_noise_is_a_decode_error_or_audio_and_never_a_crash(format: str, noise: bytes, magic: bytes) -> None:
    """Bytes of any kind are answered."""
    try:
        info = check(format, magic + noise, 24000)
    except DecodeError:
        return
    assert info.duration is None or info.duration > 0


@given(st.sampled_from(["opus", "mp3"]), st.integers(0, 3000), st.integers(0, 255))
@settings(deadline=None)
def test_a_flipped_byte_never_crashes(format: str, place: int, value: int) -> None:
    """A damaged file is read as far as it makes sense."""
    file = bytearray(opus() if format == "opus" else encoded("MP3"))
    file[place % len(file)] = value
    duration(format, bytes(file), 24000)

"""`cosyclient.audio.inspect` and `check`: what holds for every format, and each fault's message."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient import audio
from cosyclient.audio import check, duration, wav_bytes
from cosyclient.errors import DecodeError
from tests.audio.files import HEAD, SAMPLES, bare_mp3, encoded, opus, page


@pytest.mark.parametrize(
    ("format", "file"), [("opus", opus()), ("mp3", encoded("MP3")), ("mp3", encoded("MP3", 44100))]
)
def test_every_truncation_of_a_compressed_file_is_a_retryable_error(format: str, file: bytes) -> None:
    """Also between two pages or frames."""
    for cut in range(0, len(file), 1 if len(file) < 4000 else 7):
        with pytest.raises(DecodeError) as caught:
            check(format, file[:cut], 24000)
        assert caught.value.retryable, cut


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
def test_each_fault_of_audio_has_its_message(format: str, data: bytes, match: str, retryable: bool) -> None:
    """And `duration` is ``None``."""
    with pytest.raises(DecodeError, match=match) as caught:
        check(format, data, 24000)
    assert caught.value.retryable is retryable
    assert duration(format, data, 24000) is None


@given(
    st.sampled_from(list(audio.MEDIA_TYPES)), st.binary(max_size=300), st.sampled_from([b"", b"RIFF", b"OggS", b"ID3"])
)
@settings(deadline=None)
def test_noise_is_audio_or_a_decode_error(format: str, noise: bytes, magic: bytes) -> None:
    """No other exception is raised."""
    try:
        info = check(format, magic + noise, 24000)
    except DecodeError:
        return
    assert info.duration is None or info.duration > 0


@given(st.sampled_from(["opus", "mp3"]), st.integers(0, 3000), st.integers(0, 255))
@settings(deadline=None)
def test_a_changed_byte_raises_nothing(format: str, place: int, value: int) -> None:
    """`duration` reads a damaged file as far as it makes sense."""
    file = bytearray(opus() if format == "opus" else encoded("MP3"))
    file[place % len(file)] = value
    duration(format, bytes(file), 24000)

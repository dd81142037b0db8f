"""`cosyclient.audio.mp3`: the duration of MP3, without decoding."""

from __future__ import annotations

import pytest

from cosyclient.audio import AudioInfo, check, duration
from cosyclient.errors import DecodeError
from tests.audio.files import bare_mp3, encoded, without_info


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_duration_follows_from_frames_and_the_lame_tag(rate: int, channels: int) -> None:
    """MPEG 1, 2 and 2.5; encoder delay and padding do not count."""
    info = check("mp3", encoded("MP3", rate, channels), 0)
    assert (info.sample_rate, info.channels) == (rate, channels)
    assert info.duration == pytest.approx(1.37, abs=0.001)


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
def test_frames_are_counted_where_no_frame_states_their_number(file: bytes) -> None:
    """Tags before and after do not count; each frame is 24 ms at 24 kHz, encoder delay included."""
    length = duration("mp3", file, 0)
    assert length is not None
    assert 1.37 <= length <= 1.37 + 0.13


@pytest.mark.parametrize("odd", [None, 1, 5, 9])
@pytest.mark.parametrize("rest", [b"", b"TAG" + bytes(125), b"\xff"])
def test_frames_count_whether_or_not_their_headers_are_equal(odd: int | None, rest: bytes) -> None:
    """Ten frames of 24 ms, counted at once or one by one; without the last byte they are truncated."""
    frames = [b"\xff\xf3\x54" + (b"\xc0" if place == odd else b"\xc4") + bytes(116) for place in range(10)]
    file = b"".join(frames) + rest
    assert duration("mp3", file, 0) == pytest.approx(0.24)
    with pytest.raises(DecodeError, match="truncated mp3, a frame ends at byte 1200, 1199 there"):
        check("mp3", b"".join(frames)[:-1], 0)


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("between", [b"", b"ID3\x04\0\0\0\0\x01\x00" + bytes(128), b"TAG" + bytes(125)])
@pytest.mark.parametrize("after", [b"", b"ID3\x03\0\0\0\0\0\x0a" + bytes(10), b"TAG" + bytes(125)])
def test_the_durations_of_concatenated_files_add_up(announced: bool, between: bytes, after: bytes) -> None:
    """With tags or without, with a Xing frame each or without."""
    parts = [encoded("MP3", seconds=seconds) for seconds in (1.37, 0.5, 2.0)]
    parts = parts if announced else [without_info(each) for each in parts]
    each = [duration("mp3", part, 0) or 0.0 for part in parts]
    info = check("mp3", between + between.join(parts) + after, 0)
    assert info.duration == pytest.approx(sum(each))
    with pytest.raises(DecodeError, match="truncated mp3"):
        check("mp3", between.join(parts)[:-1], 0)


def test_a_free_format_file_has_no_known_duration() -> None:
    """Its frames do not state their size, yet they are MP3."""
    assert check("mp3", b"\xff\xfb\x00\xc4" + bytes(2000), 0) == AudioInfo(44100, 1, None)

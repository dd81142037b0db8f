"""`cosyclient.audio.ogg`: the duration and the rate of Ogg Opus, without decoding."""

from __future__ import annotations

import struct

import pytest

from cosyclient.audio import AudioInfo, check, duration
from cosyclient.errors import DecodeError
from tests.audio.files import HEAD, opus, page


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_duration_follows_from_the_last_granule_position(rate: int, channels: int) -> None:
    """Less the pre-skip, at 48 kHz whatever the input rate was."""
    info = check("opus", opus(rate, channels), rate)
    assert (info.sample_rate, info.channels) == (rate, channels)
    assert info.duration == pytest.approx(1.37)
    assert check("opus", opus(rate, channels), 22050) == info


def test_the_callers_rate_applies_where_the_header_has_none() -> None:
    """An input rate of 0 means unspecified."""
    head = HEAD[:12] + bytes(4) + HEAD[16:]
    assert check("opus", page(2, 0, head) + page(4, 5112, b"x"), 22050) == AudioInfo(22050, 1, 0.1)


@pytest.mark.parametrize("granule", [1 << 40, (1 << 63) - 1])
def test_a_duration_that_the_bytes_cannot_hold_is_a_retryable_error(granule: int) -> None:
    """Whatever granule position a page states."""
    with pytest.raises(DecodeError, match="claims") as caught:
        check("opus", page(2, 0, HEAD) + page(4, granule, b"x"), 24000)
    assert caught.value.retryable


@pytest.mark.parametrize("input_rate", [1, 999, 768_001, 0xFFFFFFFF])
def test_an_absurd_input_rate_is_ignored(input_rate: int) -> None:
    """Nothing checks what an encoder writes there."""
    head = HEAD[:12] + struct.pack("<I", input_rate) + HEAD[16:]
    assert check("opus", page(2, 0, head) + page(4, 5112, b"x"), 22050).sample_rate == 22050


def test_the_durations_of_chained_files_add_up() -> None:
    """Concatenated files are a legal chain."""
    assert duration("opus", opus(seconds=1.0) + opus(seconds=0.5), 24000) == pytest.approx(1.5)

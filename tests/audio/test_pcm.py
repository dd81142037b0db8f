"""`cosyclient.audio.pcm`: samples are counted, converted and clipped, with numpy and without."""

from __future__ import annotations

import struct

import pytest

from cosyclient.audio import AudioInfo, check, duration, pcm, wav_bytes
from cosyclient.errors import DecodeError
from tests.audio.files import SAMPLES


def test_the_duration_of_samples_follows_from_their_number() -> None:
    """Samples state no rate, so the caller's applies."""
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
def test_each_fault_of_samples_has_its_message(data: bytes, match: str, retryable: bool) -> None:
    """An incomplete frame, or a file with a header of its own."""
    with pytest.raises(DecodeError, match=match) as caught:
        check("pcm", data, 24000)
    assert caught.value.retryable is retryable


@pytest.fixture(params=["numpy", "plain"])
def _with_and_without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "plain":
        monkeypatch.setattr(pcm, "import_optional", lambda name: None)


@pytest.mark.usefixtures("_with_and_without")
def test_every_16_bit_sample_survives_float32() -> None:
    """All 65,536 of them."""
    every = struct.pack("<65536h", *range(-32768, 32768))
    assert pcm.float32_to_s16(pcm.s16_to_float32(every)) == every


@pytest.mark.usefixtures("_with_and_without")
def test_loud_floats_are_clipped_and_infinite_ones_are_an_error() -> None:
    """A wrapped sample would crackle; NaN comes from a broken model."""
    assert pcm.float32_to_s16(struct.pack("<5f", 1.0, 1.5, -1.0, -7.0, 0.0)) == struct.pack(
        "<5h", 32767, 32767, -32768, -32768, 0
    )
    for wrong in (float("nan"), float("inf"), float("-inf")):
        with pytest.raises(DecodeError, match="no number"):
            pcm.float32_to_s16(struct.pack("<2f", 0.0, wrong))
    with pytest.raises(DecodeError, match="inside a sample"):
        pcm.float32_to_s16(bytes(6))
    assert pcm.float32_to_s16(b"") == b""

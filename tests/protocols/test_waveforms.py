"""Samples between their two shapes, with numpy and without, and recordings at the rate a model hears."""

from __future__ import annotations

import struct
import sys

import pytest

from cosyclient.errors import ConfigurationError, DecodeError
from cosyclient.protocols import waveforms
from cosyclient.voices import Prompt
from tests.protocols.wire_runtime import recording


@pytest.fixture(params=["numpy", "plain"])
def _with_and_without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "plain":
        for name in ("numpy", "soxr"):
            monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("_with_and_without")
def test_every_sample_survives_both_ways() -> None:
    """All 65,536 of them."""
    every = struct.pack("<65536h", *range(-32768, 32768))
    assert waveforms.s16_of_f32(waveforms.f32_of_s16(every)) == every


@pytest.mark.usefixtures("_with_and_without")
def test_what_is_too_loud_is_clipped_and_what_is_no_number_refused() -> None:
    """A wrapped sample is a crack; a NaN is a model gone wrong."""
    assert waveforms.s16_of_f32(struct.pack("<5f", 1.0, 1.5, -1.0, -7.0, 0.0)) == struct.pack(
        "<5h", 32767, 32767, -32768, -32768, 0
    )
    for wrong in (float("nan"), float("inf"), float("-inf")):
        with pytest.raises(DecodeError, match="no number"):
            waveforms.s16_of_f32(struct.pack("<2f", 0.0, wrong))
    with pytest.raises(DecodeError, match="inside a sample"):
        waveforms.s16_of_f32(bytes(6))
    assert waveforms.s16_of_f32(b"") == b""


def test_a_recording_is_resampled_once() -> None:
    """To 16 kHz, whatever it had; one that has it already is left alone."""
    prompt = Prompt(recording(rate=48000))
    heard = waveforms.heard(prompt)
    assert waveforms.heard(prompt) is heard
    assert len(heard) == 32000
    assert len(heard) // 2 <= waveforms.heard_samples(prompt)
    assert waveforms.heard_f32(prompt) is waveforms.heard_f32(prompt)
    middle = struct.unpack_from("<100h", heard, 16000)
    assert all(abs(sample - 700) <= 2 for sample in middle)
    plain = Prompt(recording())
    assert waveforms.heard(plain) is plain.samples


def test_without_soxr_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where resampling is needed."""
    monkeypatch.setitem(sys.modules, "soxr", None)
    assert waveforms.heard(Prompt(recording()))
    with pytest.raises(ConfigurationError, match=r"cosyclient\[grpc\].*ffmpeg"):
        waveforms.heard(Prompt(recording(rate=24000)))

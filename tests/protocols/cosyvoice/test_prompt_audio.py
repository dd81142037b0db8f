"""Samples between their two shapes, with numpy and without, and recordings at the rate a model takes."""

from __future__ import annotations

import struct
import sys

import pytest

from cosyclient.errors import ConfigurationError
from cosyclient.protocols.cosyvoice import prompt_audio as waveforms
from cosyclient.voices import Prompt
from tests.protocols.wire_runtime import recording


def test_a_recording_is_resampled_once() -> None:
    """To 16 kHz, whatever it had; one that has it already is left alone."""
    prompt = Prompt(recording(rate=48000))
    received = waveforms.prompt_at_16k(prompt)
    assert waveforms.prompt_at_16k(prompt) is received
    assert len(received) == 32000
    assert len(received) // 2 <= waveforms.max_samples_at_16k(prompt)
    assert waveforms.prompt_at_16k_f32(prompt) is waveforms.prompt_at_16k_f32(prompt)
    middle = struct.unpack_from("<100h", received, 16000)
    assert all(abs(sample - 700) <= 2 for sample in middle)
    plain = Prompt(recording())
    assert waveforms.prompt_at_16k(plain) is plain.samples


def test_without_soxr_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where resampling is needed."""
    monkeypatch.setitem(sys.modules, "soxr", None)
    assert waveforms.prompt_at_16k(Prompt(recording()))
    with pytest.raises(ConfigurationError, match=r"'\.\[grpc\]'.*ffmpeg"):
        waveforms.prompt_at_16k(Prompt(recording(rate=24000)))

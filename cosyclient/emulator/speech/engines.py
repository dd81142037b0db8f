"""Render texts as a tone of the right length, or as samples that carry the text itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.speech.echo import echo_samples
from cosyclient.emulator.speech.voices import VOICES

if TYPE_CHECKING:
    from collections.abc import Hashable

    from cosyclient.emulator.speech.items import Audio, Batch

_WIDE = re.compile(
    r"[\u1100-\u11ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_WIDE_SECONDS = 0.2
_NARROW_SECONDS = 0.065
_SHORTEST = 0.3
_LOUDNESS = 2600
_ECHOED = 0.2
"""Share of the estimated length that an echo lasts: plausible, but small enough to keep for thousands of texts."""


class Engine(Protocol):
    """Turn one text into audio; called from several threads at once."""

    instant: bool
    """Whether rendering is quick enough for the event loop."""

    def key(self, text: str, batch: Batch) -> Hashable:
        """Return what decides the audio: equal keys get equal audio."""

    def render(self, text: str, batch: Batch) -> Audio:
        """Return the audio of one text."""


def estimate_seconds(text: str, speed: float) -> float:
    """Estimate how long speech of *text* lasts: a Han, Kana or Hangul character is a syllable of 0.2 s."""
    length = len(text)
    wide = 0 if text.isascii() else length - len(_WIDE.sub("", text))
    seconds = wide * _WIDE_SECONDS + (length - wide) * _NARROW_SECONDS
    return max(_SHORTEST, seconds / speed)


class ToneEngine:
    """Render a tone as long as the text would last: deterministic, and one rendering serves all texts of a length."""

    instant = False

    def key(self, text: str, batch: Batch) -> Hashable:
        """Round the duration to 0.1 s, so that few renderings serve many texts."""
        return round(estimate_seconds(text, batch.speed) * 10), batch.voice, batch.format, batch.sample_rate

    def render(self, text: str, batch: Batch) -> Audio:
        """Repeat a block of 0.1 s, which holds whole periods of the pitch."""
        import numpy as np

        from cosyclient.emulator.speech.encoding import actual_rate, encode

        rate = actual_rate(batch.format, batch.sample_rate)
        phase = np.arange(rate // 10) * (2 * np.pi * VOICES[batch.voice].pitch / rate)
        block = (np.sin(phase) * _LOUDNESS).astype(np.int16)
        blocks = round(estimate_seconds(text, batch.speed) * 10)
        return encode(np.tile(block, blocks), batch.format, rate)


class EchoEngine:
    """Write the text into the samples, so that a test can tell whose audio it got."""

    instant = True

    def key(self, text: str, batch: Batch) -> Hashable:
        """Every text has its own audio."""
        return text, batch.format, batch.sample_rate, batch.speed

    def render(self, text: str, batch: Batch) -> Audio:
        """Return WAV or PCM; a lossy codec would not keep the text."""
        if batch.format not in ("wav", "pcm"):
            detail = "must be wav or pcm with the echo engine"
            raise Problem("validation_failed", f"/format {detail}", errors=[("/format", detail)])
        import numpy as np

        from cosyclient.emulator.speech.encoding import encode

        seconds = estimate_seconds(text, batch.speed) * _ECHOED
        samples = np.frombuffer(echo_samples(text, batch.sample_rate, seconds), "<i2")
        return encode(samples, batch.format, batch.sample_rate)


def build_engine(name: str) -> Engine:
    """Return the engine of this name, ready to render."""
    match name:
        case "tone":
            return ToneEngine()
        case "echo":
            return EchoEngine()
        case _:
            from cosyclient.emulator.speech.espeak import EspeakEngine

            return EspeakEngine()

"""Speak Chinese and English aloud through the eSpeak NG library inside the ``espeakng-loader`` wheel."""

from __future__ import annotations

import ctypes
import itertools
import threading
from typing import TYPE_CHECKING, Any

import espeakng_loader
import numpy as np

from cosyclient.emulator.speech.encoding import actual_rate, encode, resample
from cosyclient.emulator.speech.voices import VOICES, Voice

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from cosyclient.emulator.speech.items import Audio, Batch

# From espeak-ng's speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_PARAMETER_RATE = 1
_WORDS_PER_MINUTE = 175

_SHORTEST = 0.3
_LONGEST = 1800.0
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class EspeakEngine:
    """Speak each run of a text in the voice of its script, and join the runs.

    The C library keeps one voice and one callback for the whole process, so a lock lets one thread in at a time;
    resampling and encoding happen outside it.
    """

    instant = False

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards every call into the library, and the buffer its callback fills
        self._samples = bytearray()
        self._most_bytes = 0
        self._callback = _Callback(self._collect)  # kept: the library holds only a pointer to it
        self._library = _load()
        self._rate: int = self._library.espeak_Initialize(
            _OUTPUT_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), _INITIALIZE_DONT_EXIT
        )
        if self._rate <= 0:
            raise RuntimeError(f"eSpeak NG does not start with its data in {espeakng_loader.get_data_path()}")
        self._most_bytes = int(_LONGEST * self._rate) * 2
        self._library.espeak_SetSynthCallback(self._callback)

    def key(self, text: str, batch: Batch) -> Hashable:
        """Every text has its own audio."""
        return text, batch.voice, batch.speed, batch.format, batch.sample_rate

    def render(self, text: str, batch: Batch) -> Audio:
        """Return speech in the batch's voice, speed, format and rate."""
        with self._lock:
            pcm = self._speak(text, VOICES[batch.voice], batch.speed)
        samples = np.frombuffer(pcm, np.int16)
        short = int(_SHORTEST * self._rate) - len(samples)
        if short > 0:  # nothing but punctuation is silence, not an empty file
            samples = np.concatenate([samples, np.zeros(short, np.int16)])
        rate = actual_rate(batch.format, batch.sample_rate)
        return encode(resample(samples, self._rate, rate), batch.format, rate)

    def _speak(self, text: str, voice: Voice, speed: float) -> bytes:
        self._samples.clear()
        for language, run in runs(text, voice):
            name = language + voice.timbre
            if self._library.espeak_SetVoiceByName(name.encode()) != 0:
                raise RuntimeError(f"eSpeak NG has no voice {name}")
            # Setting a voice resets the rate, so this comes second.
            self._library.espeak_SetParameter(_PARAMETER_RATE, round(_WORDS_PER_MINUTE * speed), 0)
            encoded = run.replace("\0", " ").encode()
            status = self._library.espeak_Synth(
                encoded, len(encoded) + 1, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None
            )
            if status != 0:
                raise RuntimeError(f"eSpeak NG failed with status {status}")
        return bytes(self._samples)

    def _collect(self, wave: Any, count: int, _events: Any) -> int:
        if wave and count > 0:
            self._samples += ctypes.string_at(wave, count * 2)
        return 1 if len(self._samples) > self._most_bytes else 0


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    library.espeak_SetSynthCallback.argtypes = [_Callback]
    library.espeak_SetSynthCallback.restype = None
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
    library.espeak_Synth.argtypes = [
        *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
        *(ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
    ]
    return library


def runs(text: str, voice: Voice) -> Iterator[tuple[str, str]]:
    """Split a text into (language, run) by script; digits and punctuation stay with the run before them."""
    scripts = [_script(character) for character in text]
    if "kana" in scripts:  # Han among Kana is Japanese
        scripts = ["kana" if script == "han" else script for script in scripts]
    languages = {"han": voice.han, "kana": "ja", "hangul": "ko", "latin": voice.latin}
    known = next((script for script in scripts if script), "han")
    filled = []
    for script in scripts:
        known = script or known
        filled.append(languages[known])
    position = 0
    for language, group in itertools.groupby(filled):
        length = sum(1 for _ in group)
        yield language, text[position : position + length]
        position += length


def _script(character: str) -> str:
    point = ord(character)
    if 0x3040 <= point <= 0x30FF:
        return "kana"
    if 0x3400 <= point <= 0x9FFF or 0xF900 <= point <= 0xFAFF or 0x20000 <= point <= 0x3FFFF:
        return "han"
    if 0xAC00 <= point <= 0xD7AF or 0x1100 <= point <= 0x11FF:
        return "hangul"
    return "latin" if character.isalpha() else ""

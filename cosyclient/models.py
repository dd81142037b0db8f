"""The records of the public API: options of a call, and its results.

`SpeechOptions` are the options of a call, `Speech` is the audio of one text, `Outcome` one text with its speech or
error.

```python
from cosyclient import CosyClient, SpeechOptions, join

options: SpeechOptions = {"format": "wav", "sample_rate": 24000, "speed": 1.2}
with CosyClient("https://tts.example.com") as cosy:
    outcomes = list(cosy.synthesize_many(["One.", "Two."], **options))

whole = join([outcome.unwrap() for outcome in outcomes], gap=0.3)  # raises the error of a text that failed
print(whole.media_type, whole.sample_rate, whole.channels)  # audio/wav 24000 1
whole.save("both.wav")
```
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, TypedDict

from cosyclient import audio as _audio
from cosyclient.errors import BadUtterance, ConfigurationError, did_you_mean
from cosyclient.util.extra_fields import Extra, Headers
from cosyclient.util.files import write_atomically
from cosyclient.util.numbers import float_in_range, int_in_range
from cosyclient.voices import MAX_NAME, Voice, check_characters, check_short_text

if TYPE_CHECKING:
    import os

    from cosyclient.errors import CosyError

MAX_CODE_POINTS: Final = 4096
MAX_INSTRUCT_CODE_POINTS: Final = 500
MAX_GAP: Final = 3600.0
"""Seconds of silence between two joined speeches, at most."""
SAMPLE_RATES: Final = (8000, 16000, 22050, 24000, 44100, 48000)

AudioFormat: TypeAlias = Literal["wav", "pcm", "mp3", "opus"]
"""How a service encodes audio: ``pcm`` is plain 16-bit samples, ``opus`` an Ogg file."""
OnSilent: TypeAlias = Literal["error", "silence"]
"""The result of a text for which the service makes no audio: a `DecodeError`, or a short silence."""
Priority: TypeAlias = Literal["interactive", "bulk"]
"""Whether a text is sent first, or takes the capacity that interactive texts leave."""


class StreamOptions(TypedDict, total=False):
    """Options of `CosyClient.stream` and `CosyClient.stream_text`, whose audio is always plain samples.

    What is left out is as given to the client. `VoiceSettings` validates the values.
    """

    voice: str | Voice | None
    """The name of a voice, or a `Voice` cloned from a recording; ``None`` is the service's own."""
    model: str | None
    """The name of a model; ``None`` is the service's own."""
    sample_rate: int
    """Hz: one of 8000, 16000, 22050, 24000, 44100 and 48000."""
    speed: float
    """A factor from 0.25 to 4.0."""
    instruct: str | None
    """How to speak, such as a dialect or an emotion: at most 500 code points."""
    seed: int | None
    """From 0 to 65,535; the same seed gives the same speech where the service supports it."""
    words: bool
    """Whether to ask for the time of every word, see `Speech`."""
    on_silent: OnSilent
    """The result of a text without a letter or digit for which the service makes no audio."""
    headers: Mapping[str, str] | None
    """Header fields of the request; they override those of the client one by one."""
    extra: Mapping[str, Any] | None
    """Members of the request that the service knows and this library does not; they override those of the client."""
    timeout: float | None
    """Seconds from the call to its deadline; ``None`` is the client's."""
    priority: Priority | None
    """``"interactive"`` texts are sent first; ``"bulk"`` texts take the capacity that is left. ``None`` is the
    default: bulk in `CosyClient.synthesize_many` and `CosyClient.batch_synth`, interactive elsewhere."""


# TypedDict is named again as a base, without which pdoc does not find the inherited fields on Python 3.11.
class SpeechOptions(StreamOptions, TypedDict, total=False):
    """Options of every other call of `CosyClient`, and the defaults that `CosyClient.with_options` sets."""

    format: AudioFormat
    """How the audio is encoded."""


# Han, kana and hangul: one character is about one syllable.
_SYLLABIC: Final = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+")
_SCHEMA: Final = "cosyclient/1"


def _short_repr(value: object) -> str:
    """Return the repr of *value*, at most 80 characters of it, for an error message."""
    try:
        shown = repr(value)
    except ValueError:  # an integer of thousands of digits
        return f"{type(value).__name__}"
    return shown if len(shown) <= 80 else f"{shown[:79]}…"


def check_text(text: object) -> str:
    """Return *text* if it is valid; raises `BadUtterance` naming the rule it breaks."""
    if not isinstance(text, str):
        raise BadUtterance(f"text: must be a str, got {type(text).__name__}")
    if not text or text.isspace():
        raise BadUtterance("text: must not be empty or blank")
    if len(text) > MAX_CODE_POINTS:
        raise BadUtterance(f"text: {len(text)} code points, at most {MAX_CODE_POINTS} are accepted; split it")
    check_characters("text", text)
    return text


def has_speech(text: str) -> bool:
    """Return whether *text* contains something to be spoken: a letter or a digit.

    CosyVoice drops sentences of punctuation and symbols, emoji among them, without an error.
    """
    # `isalnum` is true for modifier letters such as the Japanese prolonged sound mark, which are not spoken alone.
    return any(character.isalnum() and unicodedata.category(character) != "Lm" for character in text)


@dataclass(frozen=True, kw_only=True)
class VoiceSettings:
    """How texts are spoken; texts with equal settings may share a request.

    ``voice`` is a name or a `Voice`, ``sample_rate`` is in Hz, ``speed`` a factor from 0.25 to 4.0, ``instruct`` at
    most 500 code points, ``seed`` from 0 to 65,535, ``words`` asks for the time of every word. ``None`` leaves the
    choice to the service. ``on_silent`` is the result of a text without speech (see `has_speech`) for which the service
    makes no audio: an ``"error"``, or a short ``"silence"``. ``headers`` are sent with each request, ``extra`` holds
    members of it that the service knows and this library does not; see `cosyclient.util.extra_fields`. Raises
    `BadUtterance` naming the field and the rule it breaks.
    """

    voice: str | Voice | None = None
    model: str | None = None
    format: str = "wav"
    sample_rate: int = 24000
    speed: float = 1.0
    instruct: str | None = None
    seed: int | None = None
    words: bool = False
    on_silent: str = "error"
    headers: Mapping[str, str] | None = None
    extra: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.format, str) or self.format not in _audio.MEDIA_TYPES:
            raise BadUtterance(f"format: {_short_repr(self.format)} is not one of {', '.join(_audio.MEDIA_TYPES)}")
        if not isinstance(self.sample_rate, int) or self.sample_rate not in SAMPLE_RATES:
            raise BadUtterance(
                f"sample_rate: {_short_repr(self.sample_rate)} is not one of {', '.join(map(str, SAMPLE_RATES))}"
            )
        if (speed := float_in_range(self.speed, 0.25, 4.0)) is None:
            raise BadUtterance(f"speed: must be a number from 0.25 to 4.0, got {_short_repr(self.speed)}")
        # A float, so that 1 and 1.0 have one fingerprint and share a batch.
        object.__setattr__(self, "speed", speed)
        if self.seed is not None and int_in_range(self.seed, 0, 65535) is None:
            raise BadUtterance(f"seed: must be an integer from 0 to 65535, got {_short_repr(self.seed)}")
        if not isinstance(self.words, bool):
            raise BadUtterance(f"words: must be True or False, got {_short_repr(self.words)}")
        if self.on_silent not in ("error", "silence"):
            raise BadUtterance(f"on_silent: must be 'error' or 'silence', got {_short_repr(self.on_silent)}")
        for name, kind in (("headers", Headers), ("extra", Extra)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                # An empty mapping is stored as None, so that the two are equal.
                object.__setattr__(self, name, kind(value) if value or not isinstance(value, Mapping) else None)
        if isinstance(self.voice, Voice) and self.voice.prompt is None:
            # Stored as a str, so that both ways to name a voice have one fingerprint.
            object.__setattr__(self, "voice", self.voice.name)
        for name, most in (("voice", MAX_NAME), ("model", MAX_NAME), ("instruct", MAX_INSTRUCT_CODE_POINTS)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Voice):
                check_short_text(name, value, max_length=most)

    def replace(self, options: Mapping[str, Any]) -> VoiceSettings:
        """Return these settings overridden by *options*; raises `ConfigurationError` for an unknown option."""
        for unknown in sorted(options.keys() - _OPTION_NAMES):
            known = sorted(SpeechOptions.__annotations__)
            raise ConfigurationError(
                f"unknown option {unknown}{did_you_mean(unknown, known)}; known are {', '.join(known)}"
            )
        values = {**self._values, **options}
        for name, own in (("headers", self.headers), ("extra", self.extra)):
            # Merged, not replaced: a call adds to the fields of its client.
            if isinstance(own, (Headers, Extra)) and isinstance(others := options.get(name), Mapping):
                values[name] = own.merged(others)
        return VoiceSettings(**values)

    @property
    def checked_headers(self) -> Headers | None:
        """Return ``headers``, which the constructor made `Headers`."""
        return self.headers if isinstance(self.headers, Headers) else None

    @property
    def checked_extra(self) -> Extra | None:
        """Return ``extra``, which the constructor made an `Extra`."""
        return self.extra if isinstance(self.extra, Extra) else None

    @property
    def voice_name(self) -> str | None:
        """Return the voice's name, or ``None`` where there is none or it is cloned from a recording."""
        return self.voice if isinstance(self.voice, str) else None

    @property
    def voice_kind(self) -> str:
        """Return ``"named"``, ``"clone"`` or ``"cross_lingual"``."""
        return self.voice.kind if isinstance(self.voice, Voice) else "named"

    @cached_property
    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _OPTION_NAMES}

    @cached_property
    def _canonical(self) -> list[tuple[str, Any]]:
        # Options added in later releases count only where they are used: fingerprints must stay the same.
        values = {**self._values, "voice": self.voice.key if isinstance(self.voice, Voice) else self.voice}
        if not self.words:
            del values["words"]
        # These do not change the audio.
        del values["on_silent"], values["headers"]
        values["extra"] = self.extra.key if isinstance(self.extra, Extra) else None
        if values["extra"] is None:
            del values["extra"]
        return sorted(values.items())

    @cached_property
    def _digest_prefix(self) -> Any:
        # The settings are hashed once; the digest of each text continues from a copy.
        canonical = json.dumps([_SCHEMA, self._canonical], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode() + b"\0")

    @cached_property
    def _hash(self) -> int:
        return hash(self.key)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def key(self) -> str:
        """Return a str that is equal exactly for equal settings; as a key it is fast: a str caches its hash."""
        headers = self.headers.key if isinstance(self.headers, Headers) else ""
        return f"{self._canonical!r} {self.on_silent} {headers}"


_OPTION_NAMES: Final = frozenset(field.name for field in fields(VoiceSettings))


@dataclass(frozen=True, slots=True)
class Utterance:
    """One text with its voice settings; raises `BadUtterance` if the text is invalid."""

    text: str
    settings: VoiceSettings

    def __post_init__(self) -> None:
        check_text(self.text)

    @property
    def key(self) -> tuple[str, str]:
        """Return a tuple that is equal exactly for equal utterances."""
        return self.settings.key, self.text

    @property
    def fingerprint(self) -> str:
        """Return a stable digest, 32 hexadecimal digits of SHA-256, which logs show instead of the text."""
        digest = self.settings._digest_prefix.copy()
        digest.update(unicodedata.normalize("NFC", self.text).encode())
        return str(digest.hexdigest()[:32])

    @property
    def expected_seconds(self) -> float:
        """Estimate the duration of this text's audio in seconds; timeouts and batches are sized by it.

        0.2 s for a syllabic character (20 of them make 190 KB of 24 kHz WAV), 0.065 s for any other, divided by the
        speed.
        """
        characters = len(self.text)
        # Removing runs and counting the rest is ten times as fast as finding every character.
        syllables = 0 if self.text.isascii() else characters - len(_SYLLABIC.sub("", self.text))
        return (SYLLABIC_SECONDS * syllables + ALPHABETIC_SECONDS * (characters - syllables)) / self.settings.speed

    def __repr__(self) -> str:
        return f"<Utterance {self.fingerprint[:12]}, {len(self.text)} characters>"


class Word(NamedTuple):
    """When a word is spoken, in seconds from the beginning of the speech."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """The audio of one text.

    ``audio`` is the encoded file as the service sent it, ``sample_rate`` is in Hz, ``duration`` in seconds,
    ``attempts`` the number of tries it took, ``cached`` whether nothing was sent for it, ``words`` the times of its
    words, if they were asked for and the service returned them.
    """

    audio: bytes
    format: str
    sample_rate: int
    channels: int = 1
    duration: float = 0.0
    fingerprint: str = ""
    attempts: int = 1
    cached: bool = False
    words: tuple[Word, ...] = ()

    @property
    def media_type(self) -> str:
        """Return the media type of ``audio``, such as ``audio/wav``."""
        return _audio.MEDIA_TYPES[self.format]

    def pcm(self) -> bytes:
        """Return the samples as signed 16-bit little-endian, channels interleaved; those of a WAV file are converted.

        Raises `ConfigurationError` for mp3 and opus, which need a decoder: ask for ``wav`` or ``pcm``.
        """
        if self.format == "pcm":
            return self.audio
        if self.format == "wav":
            return _audio.parse_wav(self.audio).samples
        raise ConfigurationError(f"format: {self.format} holds no plain samples; ask the service for 'wav' or 'pcm'")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write ``audio`` to *path* atomically and return *path*; an interrupted save leaves no partial file.

        Follows links, keeps the mode of a replaced file, and writes directly to a device or a pipe. Raises `OSError`
        naming *path*.
        """
        return write_atomically(Path(path), self.audio)

    def __repr__(self) -> str:
        return (
            f"<Speech {self.fingerprint[:12]} {self.format} {self.duration:.2f} s at {self.sample_rate} Hz, "
            f"{len(self.audio)} bytes>"
        )


# The slot of ``fingerprint`` holds the utterance until the digest is first read: few speeches are asked for it, and it
# takes longer than all the rest of one. Comparing, copying, pickling and `dataclasses.replace` read it.
_fingerprint_slot: Any = Speech.__dict__["fingerprint"]


def _read_fingerprint(speech: Speech) -> str:
    value: str | Utterance = _fingerprint_slot.__get__(speech)
    if isinstance(value, Utterance):
        value = value.fingerprint
        _fingerprint_slot.__set__(speech, value)
    return value


Speech.fingerprint = property(_read_fingerprint, _fingerprint_slot.__set__)  # type: ignore[assignment,misc]
# A frozen dataclass sets its fields by `object.__setattr__`, which takes three times as long (1.2 against 0.4 µs).
_set_audio, _set_format, _set_sample_rate, _set_channels, _set_duration, _set_attempts, _set_cached, _set_words = (
    Speech.__dict__[name].__set__
    for name in ("audio", "format", "sample_rate", "channels", "duration", "attempts", "cached", "words")
)


def speech_of(utterance: Utterance, audio: bytes, *, sample_rate: int, channels: int = 1, duration: float) -> Speech:
    """Return the speech of *utterance* whose *audio* a first attempt brought, as the constructor of `Speech` would."""
    speech = object.__new__(Speech)
    _set_audio(speech, audio)
    _set_format(speech, utterance.settings.format)
    _set_sample_rate(speech, sample_rate)
    _set_channels(speech, channels)
    _set_duration(speech, duration)
    _fingerprint_slot.__set__(speech, utterance)
    _set_attempts(speech, 1)
    _set_cached(speech, False)
    _set_words(speech, ())
    return speech


@dataclass(frozen=True, slots=True)
class Outcome:
    """One text of a call and its result: a speech or an error, never both."""

    index: int
    text: str
    speech: Speech | None = None
    error: CosyError | None = None

    def unwrap(self) -> Speech:
        """Return the speech or raise the error."""
        if self.error is not None:
            raise self.error
        assert self.speech is not None  # noqa: S101 - one of the two is always set
        return self.speech

    def __repr__(self) -> str:
        return f"<Outcome {self.index}: {self.speech or self.error!r}>"


def join(speeches: list[Speech] | tuple[Speech, ...], gap: float = 0.0) -> Speech:
    """Return one WAV speech made of *speeches* in order, with *gap* seconds of silence between them.

    It contains every sample of every part exactly once. Raises `ConfigurationError` for an empty list, mixed
    sample rates or channels, compressed formats and a gap that is negative or longer than an hour.
    """
    if not speeches:
        raise ConfigurationError("speeches: nothing to join")
    if not 0 <= gap <= MAX_GAP:
        raise ConfigurationError(f"gap: must be from 0 to {MAX_GAP:g} seconds, got {gap!r}")
    first = speeches[0]
    for position, speech in enumerate(speeches):
        if (speech.sample_rate, speech.channels) != (first.sample_rate, first.channels):
            raise ConfigurationError(
                f"speeches: number {position} has {speech.sample_rate} Hz and {speech.channels} channel(s), the first "
                f"{first.sample_rate} Hz and {first.channels}; resample it before joining"
            )
    silence = bytes(round(gap * first.sample_rate) * first.channels * 2)
    samples = silence.join(speech.pcm() for speech in speeches)
    digest = hashlib.sha256("\0".join(speech.fingerprint for speech in speeches).encode()).hexdigest()[:32]
    return Speech(
        audio=_audio.wav_bytes(samples, first.sample_rate, first.channels),
        format="wav",
        sample_rate=first.sample_rate,
        channels=first.channels,
        duration=len(samples) / (2 * first.channels * first.sample_rate),
        fingerprint=digest,
        attempts=max(speech.attempts for speech in speeches),
        cached=all(speech.cached for speech in speeches),
    )


SYLLABIC_SECONDS: Final = 0.2
ALPHABETIC_SECONDS: Final = 0.065
"""Seconds of audio a character is expected to become: one of a syllabic script, any other."""

"""Voices: named by the service, or cloned from a recording.

```python
from cosyclient import Voice
from cosyclient.audio import wav_bytes

recording = wav_bytes(bytes(2 * 16000), sample_rate=16000)  # the path of a file does as well
print(Voice("longanyang").kind)  # named
print(Voice.clone(recording, transcript="What is said in it.").kind)  # clone
print(Voice.cross_lingual(recording).kind)  # cross_lingual
```

Pass one as ``voice=`` to a client or a call. Make it once: the recording is read, checked and encoded then.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from array import array
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from cosyclient.audio import parse_wav, wav_bytes
from cosyclient.audio.pcm import native_byte_order
from cosyclient.errors import BadUtterance, DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MAX_PROMPT_SECONDS: Final = 30.0
MIN_PROMPT_RATE: Final = 16000
MAX_PROMPT_BYTES: Final = 10 << 20
MAX_NAME: Final = 512
"""Code points of the name of a voice, a model or an upload; the longest that services give are URLs."""
MAX_TRANSCRIPT: Final = 4096

# Tab, line feed and carriage return are layout; any other C0 or C1 control character breaks some services' text
# processing.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SHOWN_LENGTH: Final = 40


def check_characters(field: str, text: str) -> None:
    """Raise `BadUtterance` if *text*, the value of *field*, has a control character or half a surrogate pair."""
    if not text.isprintable() and (control := _CONTROL.search(text)):
        raise BadUtterance(
            f"{field}: control character U+{ord(control[0]):04X} at position {control.start()}; remove it"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadUtterance(
            f"{field}: lone surrogate U+{ord(text[error.start]):04X} at position {error.start}; "
            "decode the input as UTF-8"
        ) from None


def check_short_text(field: str, value: object, *, max_length: int) -> str:
    """Return *value* if it is a non-blank str of at most *max_length* code points; raises `BadUtterance` if not."""
    if not isinstance(value, str) or not value.strip():
        shown = repr(value[:_SHOWN_LENGTH]) if isinstance(value, str) else type(value).__name__
        raise BadUtterance(f"{field}: must be a non-blank str, got {shown}")
    if len(value) > max_length:
        raise BadUtterance(f"{field}: {len(value)} code points, at most {max_length} are accepted")
    check_characters(field, value)
    return value


class Prompt:
    """A recording of a voice: mono, 16-bit, at its own sample rate; each encoding of it is made once.

    *recording* is a WAV file of at most 30 s, at least 16 kHz and at most 10 MiB, the limits of CosyVoice's front end.
    Raises `BadUtterance` naming the rule that it breaks.
    """

    def __init__(self, recording: bytes | str | os.PathLike[str]) -> None:
        data = recording if isinstance(recording, bytes) else _read_file(recording)
        if len(data) > MAX_PROMPT_BYTES:
            raise BadUtterance(f"voice: a recording of {len(data)} bytes, at most {MAX_PROMPT_BYTES} are accepted")
        samples, self.sample_rate = _mono(data)
        self.seconds = len(samples) / 2 / self.sample_rate
        if self.sample_rate < MIN_PROMPT_RATE:
            raise BadUtterance(
                f"voice: the recording has {self.sample_rate} Hz, at least {MIN_PROMPT_RATE} are needed; "
                "record it again, resampling adds nothing"
            )
        if not samples:
            raise BadUtterance("voice: the recording is empty")
        if self.seconds > MAX_PROMPT_SECONDS:
            raise BadUtterance(f"voice: the recording lasts {self.seconds:.1f} s, at most 30 s are accepted; cut it")
        self.samples = samples
        """The samples, signed 16-bit little-endian."""
        self.wav = wav_bytes(samples, self.sample_rate)
        """The recording as a canonical WAV file."""
        self.digest = hashlib.sha256(self.wav).hexdigest()
        self._forms: dict[str, object] = {}

    @cached_property
    def base64(self) -> str:
        """Return the WAV file in base64."""
        return base64.b64encode(self.wav).decode("ascii")

    @cached_property
    def data_url(self) -> str:
        """Return the WAV file as a ``data:`` URL."""
        return f"data:audio/wav;base64,{self.base64}"

    def form(self, name: str, make: Callable[[Prompt], T]) -> T:
        """Return *make(prompt)*, called once for each *name*."""
        if name not in self._forms:
            self._forms[name] = make(self)
        made: T = self._forms[name]  # type: ignore[assignment]
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prompt) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<Prompt {self.digest[:12]}, {self.seconds:.1f} s at {self.sample_rate} Hz>"


class Voice:
    """A voice: ``Voice("longanyang")`` by name, or from a recording with `clone` or `cross_lingual`.

    Make it once and use it for many texts: the recording is read, validated and encoded then.
    """

    __slots__ = ("name", "prompt", "transcript")

    def __init__(self, name: str, *, _prompt: Prompt | None = None, _transcript: str | None = None) -> None:
        self.name = name if _prompt is not None else check_short_text("voice", name, max_length=MAX_NAME)
        self.prompt = _prompt
        self.transcript = _transcript

    @classmethod
    def clone(cls, prompt_wav: bytes | str | os.PathLike[str], transcript: str) -> Voice:
        """Return the voice of a recording (a path, or the file's bytes) whose words are *transcript*."""
        if not isinstance(transcript, str) or not transcript.strip():
            raise BadUtterance("voice: clone needs the transcript of its recording; without one use cross_lingual")
        check_short_text("voice: its transcript", transcript, max_length=MAX_TRANSCRIPT)
        return cls("", _prompt=Prompt(prompt_wav), _transcript=transcript)

    @classmethod
    def cross_lingual(cls, prompt_wav: bytes | str | os.PathLike[str]) -> Voice:
        """Return the voice of a recording without its transcript, to speak in any language."""
        return cls("", _prompt=Prompt(prompt_wav))

    @property
    def kind(self) -> str:
        """Return ``"named"``, ``"clone"`` or ``"cross_lingual"``."""
        if self.prompt is None:
            return "named"
        return "cross_lingual" if self.transcript is None else "clone"

    @property
    def key(self) -> str:
        """Return a str that is equal exactly for equal voices, in every process."""
        if self.prompt is None:
            return self.name
        transcript = "" if self.transcript is None else hashlib.sha256(self.transcript.encode()).hexdigest()
        return f"{self.kind}:{self.prompt.digest}:{transcript}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Voice) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"<Voice {self.kind} {self.prompt!r}>" if self.prompt else f"<Voice {self.name!r}>"


def _read_file(given: object) -> bytes:
    if not isinstance(given, (str, os.PathLike)):
        raise BadUtterance(f"voice: a recording is the path of a file or its bytes, not {type(given).__name__}")
    path = Path(given)
    try:
        with path.open("rb") as file:
            return file.read(MAX_PROMPT_BYTES + 1)
    except OSError as error:
        raise BadUtterance(f"voice: cannot read the recording {str(path)[:200]!r}: {error.strerror}") from error
    except ValueError as error:
        # A NUL character, or half a surrogate pair.
        raise BadUtterance(f"voice: {str(path)[:_SHOWN_LENGTH]!r} is no path: {error}") from None


def _mono(data: bytes) -> tuple[bytes, int]:
    """Return the samples of a recording, its channels averaged, and their rate."""
    try:
        wav = parse_wav(data)
    except DecodeError as error:
        advice = "convert it, for example: ffmpeg -i recording -ac 1 -sample_fmt s16 prompt.wav"
        raise BadUtterance(f"voice: the recording is no WAV file of plain samples ({error}); {advice}") from error
    if wav.channels == 1:
        return wav.samples, wav.sample_rate
    samples = native_byte_order(array("h", wav.samples))
    frames = zip(*[iter(samples)] * wav.channels, strict=True)
    return native_byte_order(array("h", (sum(frame) // wav.channels for frame in frames))).tobytes(), wav.sample_rate

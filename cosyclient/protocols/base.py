"""The interface of a wire protocol: bytes from utterances, speeches from bytes. It knows no socket and no clock.

`Capabilities` says as data what a protocol can do, so that what it cannot do is refused before anything is sent.

```python
from cosyclient import BadUtterance
from cosyclient.models import VoiceSettings
from cosyclient.protocols.base import Capabilities, check_settings

can = Capabilities(formats=("wav", "pcm"), speeds=(0.5, 2.0))
check_settings("mine", can, VoiceSettings(format="wav", speed=1.5))
try:
    check_settings("mine", can, VoiceSettings(format="mp3"))
except BadUtterance as error:
    print(error)  # format: protocol mine serves wav and pcm, not mp3
```
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from cosyclient.audio.format import PcmFormat as PcmFormat  # noqa: TC001 - a name of this module, too
from cosyclient.errors import BadUtterance
from cosyclient.models import SAMPLE_RATES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cosyclient.errors import CosyError
    from cosyclient.models import Speech, Utterance, VoiceSettings
    from cosyclient.voices import Voice
    from cosyclient.wire import WireReply, WireRequest

Item: TypeAlias = "tuple[int, Speech | CosyError]"
"""A position in the batch and what became of the text there."""

_MOST_OF_A_NUMBER = (1 << 63) - 1

ANY_RATE: tuple[int, ...] = SAMPLE_RATES
MODEL_HOPS: Mapping[int, int] = {22050: 256, 24000: 480}
"""Samples of a hop of the vocoders of CosyVoice-300M and of CosyVoice2 and 3 (``hop_size`` in their ``.yaml``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Hold what a service announced of its limits; ``None`` where it said nothing (or nothing readable).

    ``limit`` requests per ``window`` seconds are allowed, ``remaining`` are left, ``reset`` seconds until refill.
    """

    limit: float | None = None
    window: float | None = None
    remaining: float | None = None
    reset: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Say what a way of serving can do, as data: `check` refuses the rest before anything is sent.

    ``medium`` is what carries it (``http``, ``grpc``, ``websocket``), ``batch`` the most texts of one request,
    ``voices`` the kinds of voice it takes, ``formats`` and ``sample_rates`` (Hz) what it can be asked for; ``words``
    are word timestamps, ``stream`` audio while it is made, ``text_in`` text while it is written. ``speeds`` is the
    range of the speed factor, ``None`` where only 1.0 is spoken.
    """

    medium: str = "http"
    batch: int = 1
    stream: bool = False
    text_in: bool = False
    voices: frozenset[str] = frozenset({"named"})
    instruct: bool = False
    seed: bool = False
    words: bool = False
    lists_voices: bool = False
    keeps_voices: bool = False
    """Whether a recording can be uploaded once and asked for by a name."""
    model: bool = True
    speeds: tuple[float, float] | None = None
    formats: tuple[str, ...] = ("wav", "pcm", "mp3", "opus")
    sample_rates: tuple[int, ...] = ANY_RATE
    rates_by_format: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    """The rates of the formats that have fewer than ``sample_rates``."""
    max_characters: int = 4096
    max_seconds: float | None = None
    """Seconds of audio that one text may become, where the service would cut off the rest."""
    required: tuple[str, ...] = ()
    """Settings that may not be left to the service: it has no choice of its own."""
    advice: str = ""
    """What to do instead of asking for a kind of voice it does not take."""
    idle_limit: float | None = None
    """Seconds after which its servers may have closed an idle connection; the pool lets go of it before."""
    instruct_voices: frozenset[str] = frozenset({"named", "clone", "cross_lingual"})
    """The kinds of voice that can be instructed, where ``instruct`` is taken."""
    voice_names: bool = True
    """Whether a voice can be asked for by its name; otherwise there is the service's own, and those cloned."""
    hops: Mapping[int, int] = dataclasses.field(default_factory=dict)
    """The samples that lengths are multiples of, by rate, where replies name no rate and their lengths may tell it."""
    own: Mapping[str, str] | None = None
    """The members that the protocol sends itself, each with the option that says it, or none; ``extra`` is laid beside
    them. ``None``: there is no place for any."""
    plain_extra: bool = False
    """Whether the service takes only words, whole numbers and truths there."""


def members(*unsaid: str, **options: str) -> dict[str, str]:
    """Return `Capabilities.own`: members by the option of ours that says each, and those that no option says."""
    return {**dict.fromkeys(unsaid, ""), **options}


def check_settings(name: str, can: Capabilities, settings: VoiceSettings) -> None:
    """Raise the `BadUtterance` of *settings* that the protocol called *name* cannot serve, naming what it can."""
    _check_additions(name, can, settings)
    kind = settings.voice_kind
    if kind not in can.voices:
        advice = f"; {can.advice}" if can.advice else ""
        raise BadUtterance(f"voice: protocol {name} takes {_listed(sorted(can.voices))} voices, not {kind}{advice}")
    for field in can.required:
        if getattr(settings, field) is None:
            raise BadUtterance(f"{field}: protocol {name} needs one; pass {field}=…")
    if settings.voice_name is not None and not can.voice_names:
        raise BadUtterance(f"voice: protocol {name} knows no voices by name; leave it out, or clone one")
    if settings.format not in can.formats:
        raise BadUtterance(f"format: protocol {name} serves {_listed(can.formats)}, not {settings.format}")
    own = can.rates_by_format.get(settings.format)
    if settings.sample_rate not in (own or can.sample_rates):
        rates = _listed(tuple(map(str, own or can.sample_rates)))
        what = f"{settings.format} at " if own else ""
        raise BadUtterance(f"sample_rate: protocol {name} serves {what}{rates} Hz, not {settings.sample_rate}")
    low, high = can.speeds or (1.0, 1.0)
    if not low <= settings.speed <= high:
        rule = f"from {low:g} to {high:g}" if can.speeds else "1.0 only"
        raise BadUtterance(f"speed: protocol {name} serves {rule}, not {settings.speed:g}")
    for field, wanted, served in (
        ("instruct", settings.instruct is not None, can.instruct),
        ("seed", settings.seed is not None, can.seed),
        ("words", settings.words, can.words),
        ("model", settings.model is not None, can.model),
    ):
        if wanted and not served:
            raise BadUtterance(f"{field}: protocol {name} does not take it")
    if settings.instruct is not None and kind not in can.instruct_voices:
        raise BadUtterance(
            f"instruct: protocol {name} takes it with {_listed(sorted(can.instruct_voices))} voices only"
        )


def _check_additions(name: str, can: Capabilities, settings: VoiceSettings) -> None:
    extra, headers = settings.sent_extra, settings.sent_headers
    if extra and can.own is None:
        raise BadUtterance(f"extra: protocol {name} has no place for {_listed(tuple(extra))}: its messages are fixed")
    for member in extra or ():
        if (option := (can.own or {}).get(member)) is not None:
            advice = f"pass {option}= instead" if option else "the client says it itself"
            raise BadUtterance(f"extra: {member} is a member that protocol {name} sends already; {advice}")
    if extra and can.plain_extra:
        for member, value in extra.items():
            if not isinstance(value, (str, int)) or abs(value if isinstance(value, int) else 0) > _MOST_OF_A_NUMBER:
                raise BadUtterance(f"extra: {member} must be a str, a whole number or a bool with protocol {name}")
    for field in headers if headers and can.medium == "grpc" else ():
        if field.lower().endswith("-bin") or field.lower() == "user-agent":
            raise BadUtterance(f"headers: {field} cannot be sent as metadata of gRPC")


def check_length(name: str, can: Capabilities, utterance: Utterance) -> None:
    """Raise the `BadUtterance` of a text longer than the protocol called *name* takes."""
    if len(utterance.text) > can.max_characters:
        raise BadUtterance(
            f"text: {len(utterance.text)} code points, protocol {name} takes at most {can.max_characters}; split it"
        )
    if can.max_seconds is not None and (seconds := utterance.expected_seconds) > can.max_seconds:
        raise BadUtterance(
            f"text: about {seconds:.0f} s of audio, protocol {name} cuts off after {can.max_seconds:g} s; split it"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]


class WireProtocol(Protocol):
    """Speak one way of serving CosyVoice."""

    name: str
    capabilities: Capabilities

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body."""

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the request for *utterances*, which share their settings; *key* identifies it across retries."""

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the texts' speeches and errors as soon as they arrive, together what arrives together.

        Every position comes exactly once. Raises the `ServiceError` of an error reply, or `DecodeError` or
        `TransportError` when the reply breaks off; what was yielded before stands. *wall* is the present in epoch
        seconds, for dates in headers.
        """

    def quota(self, reply: WireReply) -> Quota | None:
        """Return what the reply's headers announce of the service's limits."""


@runtime_checkable
class StreamingProtocol(WireProtocol, Protocol):
    """Speak a way of serving that sends audio while it is made."""

    def encode_stream(self, utterance: Utterance, *, key: str) -> WireRequest:
        """Return the request for *utterance*'s samples as they are made."""

    def decode_stream(self, reply: WireReply, utterance: Utterance, *, wall: float) -> Iterator[PcmFormat | bytes]:
        """Yield one `PcmFormat`, then samples as they arrive; they may be cut anywhere, inside a sample too.

        Returns only when the service said, by whatever its protocol has for it, that this was all. Raises the
        `ServiceError` of an error reply, before the head or amid the samples, `DecodeError` or `TransportError`.
        """


@runtime_checkable
class TextInProtocol(StreamingProtocol, Protocol):
    """Speak a way of serving that takes text while it is written, through a `ConversationReply`."""

    def encode_duplex(self, settings: VoiceSettings, *, key: str) -> WireRequest:
        """Return the request that opens a conversation; its texts follow through the reply's ``say``."""


@dataclass(frozen=True, slots=True)
class VoiceUpload:
    """Hold a recorded voice that a service shall keep under a *name*; *consent* is the speaker's, where it is asked."""

    voice: Voice
    name: str
    consent: str | None = None


@runtime_checkable
class UploadingProtocol(WireProtocol, Protocol):
    """Speak a way of serving that keeps recorded voices."""

    def encode_upload(self, recording: VoiceUpload) -> WireRequest:
        """Return the request that hands *recording* over."""

    def decode_upload(self, reply: WireReply, recording: VoiceUpload, *, wall: float) -> str:
        """Return the name that the voice has from now on; raises like `decode`."""


@runtime_checkable
class ListingProtocol(WireProtocol, Protocol):
    """Speak a way of serving that tells its voices."""

    def encode_voices(self) -> WireRequest:
        """Return the request for the list of voices."""

    def decode_voices(self, reply: WireReply, *, wall: float) -> list[str]:
        """Return the names of the voices; raises like `decode`."""

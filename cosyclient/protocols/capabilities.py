"""What a protocol can do, as data, and the checks that refuse anything else before it is sent."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from cosyclient.errors import BadUtterance
from cosyclient.models import SAMPLE_RATES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cosyclient.models import Utterance, VoiceSettings

MODEL_HOPS: Final[Mapping[int, int]] = {22050: 256, 24000: 480}
"""Samples of a hop of the vocoders of CosyVoice-300M and of CosyVoice2 and 3 (``hop_size`` in their ``.yaml``)."""

_MAX_INT: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Describe what a protocol can do: the checks of this module, the client and ``cosyclient protocols`` read it.

    ``medium`` carries it (``http``, ``grpc``, ``websocket``); ``batch`` is the most texts of one request; ``voices``
    are the kinds of voice it accepts, ``formats`` and ``sample_rates`` (Hz) what can be asked for. ``words`` are word
    timestamps, ``stream`` is audio while it is made, ``text_in`` text while it is written. ``speeds`` is the range of
    the speed factor, ``None`` if there is only 1.0.
    """

    medium: str = "http"
    batch: int = 1
    stream: bool = False
    stream_speed: bool = True
    """Whether a stream can have another speed than 1.0."""
    stream_words: bool = True
    """Whether the words of a stream can be timed."""
    text_in: bool = False
    voices: frozenset[str] = frozenset({"named"})
    voice_names: bool = True
    """Whether a voice can be chosen by name; otherwise there are the service's own one and cloned ones."""
    instruct: bool = False
    instruct_voices: frozenset[str] = frozenset({"named", "clone", "cross_lingual"})
    """The kinds of voice that accept an instruction, where ``instruct`` holds."""
    seed: bool = False
    words: bool = False
    model: bool = True
    speeds: tuple[float, float] | None = None
    formats: tuple[str, ...] = ("wav", "pcm", "mp3", "opus")
    sample_rates: tuple[int, ...] = SAMPLE_RATES
    rates_by_format: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    """The rates of the formats that have fewer than ``sample_rates``."""
    max_characters: int = 4096
    max_seconds: float | None = None
    """Seconds of audio of one text, beyond which the service cuts it off."""
    required: tuple[str, ...] = ()
    """Settings that the caller must give, for the service has no default."""
    advice: str = ""
    """What to do instead of using a kind of voice that it does not accept."""
    lists_voices: bool = False
    keeps_voices: bool = False
    """Whether a recording can be uploaded once and then chosen by name."""
    idle_limit: float | None = None
    """Seconds for which its servers keep an idle connection open; the pool closes it before."""
    hops: Mapping[int, int] = dataclasses.field(default_factory=dict)
    """By rate, the samples that lengths are multiples of; for protocols whose replies name no rate, to check it by."""
    own_members: Mapping[str, str] | None = None
    """The members that the protocol sends itself, each with the option that sets it, or an empty string.

    ``extra`` is sent beside them; ``None`` if there is no place for it.
    """
    scalar_extra: bool = False
    """Whether the values of ``extra`` must be strings, integers or booleans."""


def own_members(*fixed: str, **options: str) -> dict[str, str]:
    """Return `Capabilities.own_members`: *fixed* ones that no option sets, and others with the option that does."""
    return {**dict.fromkeys(fixed, ""), **options}


class Fault(NamedTuple):
    """Hold why a protocol cannot serve some settings."""

    field: str
    """The setting that it cannot serve."""
    message: str
    only_here: bool = False
    """Whether another protocol is no way out: the caller forgot something, or passed what is this protocol's own."""


def check_settings(name: str, can: Capabilities, settings: VoiceSettings) -> None:
    """Raise the `BadUtterance` of *settings* that the protocol *name* cannot serve; its message names what it can."""
    for fault in faults(name, can, settings):
        raise BadUtterance(fault.message)


def faults(name: str, can: Capabilities, settings: VoiceSettings) -> Iterator[Fault]:
    """Yield what of *settings* the protocol *name* cannot serve."""
    yield from _faults_of_additions(name, can, settings)
    kind = settings.voice_kind
    if kind not in can.voices:
        advice = f"; {can.advice}" if can.advice else ""
        yield Fault("voice", f"voice: protocol {name} takes {_listed(sorted(can.voices))} voices, not {kind}{advice}")
    for field in can.required:
        if getattr(settings, field) is None:
            yield Fault(field, f"{field}: protocol {name} needs one; pass {field}=…", only_here=True)
    if settings.voice_name is not None and not can.voice_names:
        yield Fault("voice", f"voice: protocol {name} knows no voices by name; leave it out, or clone one")
    if settings.format not in can.formats:
        yield Fault("format", f"format: protocol {name} serves {_listed(can.formats)}, not {settings.format}")
    own = can.rates_by_format.get(settings.format)
    if settings.sample_rate not in (own or can.sample_rates):
        rates = _listed(tuple(map(str, own or can.sample_rates)))
        what = f"{settings.format} at " if own else ""
        yield Fault("sample_rate", f"sample_rate: protocol {name} serves {what}{rates} Hz, not {settings.sample_rate}")
    low, high = can.speeds or (1.0, 1.0)
    if not low <= settings.speed <= high:
        rule = f"from {low:g} to {high:g}" if can.speeds else "1.0 only"
        yield Fault("speed", f"speed: protocol {name} serves {rule}, not {settings.speed:g}")
    for field, wanted, served in (
        ("instruct", settings.instruct is not None, can.instruct),
        ("seed", settings.seed is not None, can.seed),
        ("words", settings.words, can.words),
        ("model", settings.model is not None, can.model),
    ):
        if wanted and not served:
            yield Fault(field, f"{field}: protocol {name} does not take it")
    if settings.instruct is not None and kind not in can.instruct_voices & can.voices:
        kinds = _listed(sorted(can.instruct_voices))
        yield Fault("instruct", f"instruct: protocol {name} takes it with {kinds} voices only")


def check_stream(name: str, can: Capabilities, settings: VoiceSettings) -> None:
    """Raise the `BadUtterance` of *settings* that the protocol *name* serves for whole speeches only."""
    if settings.speed != 1.0 and not can.stream_speed:
        raise BadUtterance(f"speed: protocol {name} streams at 1.0 only, not {settings.speed:g}; use synthesize")
    if settings.words and not can.stream_words:
        raise BadUtterance(f"words: protocol {name} does not time the words of a stream; use synthesize")


def check_length(name: str, can: Capabilities, utterance: Utterance) -> None:
    """Raise the `BadUtterance` of a text longer than the protocol *name* accepts."""
    if len(utterance.text) > can.max_characters:
        raise BadUtterance(
            f"text: {len(utterance.text)} code points, protocol {name} takes at most {can.max_characters}; split it"
        )
    if can.max_seconds is not None and (seconds := utterance.expected_seconds) > can.max_seconds:
        raise BadUtterance(
            f"text: about {seconds:.0f} s of audio, protocol {name} cuts off after {can.max_seconds:g} s; split it"
        )


def _faults_of_additions(name: str, can: Capabilities, settings: VoiceSettings) -> Iterator[Fault]:
    extra, headers = settings.checked_extra, settings.checked_headers
    if extra and can.own_members is None:
        message = f"protocol {name} has no place for {_listed(tuple(extra))}: its messages are fixed"
        yield Fault("extra", f"extra: {message}", only_here=True)
    for member in extra or ():
        if (option := (can.own_members or {}).get(member)) is not None:
            advice = f"pass {option}= instead" if option else "the client sends it itself"
            message = f"{member} is a member that protocol {name} sends already; {advice}"
            yield Fault("extra", f"extra: {message}", only_here=True)
    if extra and can.scalar_extra:
        for member, value in extra.items():
            if not isinstance(value, (str, int)) or abs(value if isinstance(value, int) else 0) > _MAX_INT:
                message = f"{member} must be a str, a whole number or a bool with protocol {name}"
                yield Fault("extra", f"extra: {message}", only_here=True)
    for field in headers if headers and can.medium == "grpc" else ():
        if field.lower().endswith("-bin") or field.lower() == "user-agent":
            yield Fault("headers", f"headers: {field} cannot be sent as metadata of gRPC")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]

"""Every form a protocol's reply has, for the contract: a family adds its rows here, its bytes in a `wire_…` module."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from cosyclient.models import VoiceSettings
from cosyclient.testing import ScriptedReply
from tests.protocols import wire, wire_grpc, wire_openai, wire_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, kw_only=True)
class ProtocolCase:
    """Say how one protocol's service answers, in one of its forms.

    *whole* gives the body that answers so many texts with *audio* of each position, which is that of `wire.tagged_wav`
    in the format of *settings*; *media_type* is the body's, *also* what is believed as well. *keeps* says whether items
    before a cut are known to be whole, *framed* whether the bytes alone show that they are all, *keyed* whether a
    request carries its key. *headers* come beside the media type, *messages* says that the body is a row of messages,
    which a transport hands on whole or not at all. *text* is what is asked for where the audio's length has to fit it.
    """

    protocol: str
    form: str
    media_type: str
    whole: Callable[[int], bytes]
    keeps: bool
    most: int = 64
    audio: Callable[[int], bytes] = wire.tagged_wav
    settings: VoiceSettings = field(default_factory=VoiceSettings)
    also: tuple[str, ...] = ()
    framed: bool = True
    keyed: bool = True
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    messages: bool = False

    def pieces(self, body: bytes, split: int = 0) -> list[bytes]:
        """Return what a transport makes of this body, in pieces of *split* bytes where it knows no messages."""
        return wire.messages(body) if self.messages else wire.pieces(body, split)

    def reply(self, body: bytes, split: int = 0) -> ScriptedReply:
        """Return a success with this body, in pieces of *split* bytes."""
        return ScriptedReply(200, {"Content-Type": self.media_type, **self.headers}, self.pieces(body, split))

    def __str__(self) -> str:
        return f"{self.protocol}-{self.form}"


# Whoever names no type, or none in particular, is read by the first byte.
_UNSAID = ("", "text/plain", "text/html", "application/octet-stream")
BATCH = [
    ProtocolCase(protocol="batch", form="frames", media_type=wire.FRAMES_TYPE, whole=wire.frames_body, keeps=True),
    ProtocolCase(
        protocol="batch",
        form="json",
        also=_UNSAID,
        media_type="application/json; charset=utf-8",
        whole=lambda count: wire.json_body([wire.result(index) for index in range(count)]),
        keeps=True,
    ),
    ProtocolCase(
        protocol="batch",
        form="array",
        also=_UNSAID,
        media_type="application/json",
        whole=lambda count: (
            b"[" + b",".join(b'"%b"' % wire.result(index)["audio_data"].encode() for index in range(count)) + b"]"
        ),
        keeps=False,
    ),
]

# A word that may last a hundredth of a second, as the tagged audio does.
_SHORT = "好。"
# The pieces of audio of a conversation; its messages are in `test_dialogues`.


def _only(audio: Callable[[int], bytes], _count: int) -> bytes:
    return audio(0)


_ANY = ("", "text/html", "application/octet-stream", "image/png")
WEBSOCKET = [
    ProtocolCase(
        protocol=name,
        form="audio",
        media_type="",
        whole=partial(_only, audio),
        keeps=False,
        most=1,
        settings=settings,
        also=also,
        framed=False,
        keyed=False,
        text=_SHORT,
    )
    for name, audio, also, settings in (
        ("model-studio", wire.tagged_wav, _ANY, VoiceSettings(voice="longanyang", model="cosyvoice-v3-flash")),
        ("vllm-omni-ws", wire.tagged_wav, _ANY, VoiceSettings(voice=wire_runtime.CLONE)),
        ("lighttts-ws", wire.tagged_pcm, ("", "application/octet-stream"), VoiceSettings(voice=wire_runtime.CLONE)),
    )
]

RUNTIME = [
    ProtocolCase(
        protocol="runtime",
        form="samples",
        media_type="",
        whole=lambda _: wire.tagged_pcm(0),
        keeps=False,
        most=1,
        settings=VoiceSettings(voice="中文女"),
        also=("", "application/octet-stream"),
        framed=False,
        text=_SHORT,
    ),
    ProtocolCase(
        protocol="lighttts",
        form="samples",
        media_type="",
        whole=lambda _: wire.tagged_pcm(0),
        keeps=False,
        most=1,
        settings=VoiceSettings(voice=wire_runtime.CLONE),
        also=("", "application/octet-stream"),
        framed=False,
        text=_SHORT,
    ),
    ProtocolCase(
        protocol="pai-eas",
        form="json",
        media_type="application/json",
        whole=wire_runtime.pai_json,
        keeps=False,
        most=1,
        settings=VoiceSettings(voice="0123"),
        text=_SHORT,
    ),
    *(
        ProtocolCase(
            protocol="model-studio-http",
            form=form,
            media_type=wire_runtime.SSE,
            whole=partial(wire_runtime.studio_whole, multi=form == "lines"),
            keeps=False,
            most=1,
            settings=VoiceSettings(voice="longanyang", model="cosyvoice-v3-flash"),
            text=_SHORT,
        )
        for form in ("events", "lines")
    ),
]

_UNLABELLED = ("text/html", "", "application/octet-stream", "image/png")
GRPC = [
    ProtocolCase(
        protocol="grpc",
        form="samples",
        media_type="application/grpc",
        whole=wire_grpc.runtime_whole,
        keeps=False,
        most=1,
        settings=VoiceSettings(voice="中文女"),
        also=_UNLABELLED,
        framed=False,
        messages=True,
        text=_SHORT,
    ),
    ProtocolCase(
        protocol="triton",
        form="binary",
        media_type="application/octet-stream",
        whole=wire_grpc.triton_binary,
        keeps=False,
        most=1,
        headers={"Inference-Header-Content-Length": str(wire_grpc.HEAD_BYTES)},
        text=_SHORT,
    ),
    ProtocolCase(
        protocol="triton",
        form="json",
        media_type="application/json",
        whole=wire_grpc.triton_json,
        keeps=False,
        most=1,
        text=_SHORT,
    ),
    ProtocolCase(
        protocol="triton-grpc",
        form="stream",
        media_type="application/grpc",
        whole=wire_grpc.triton_stream,
        keeps=False,
        most=1,
        also=_UNLABELLED,
        messages=True,
        text=_SHORT,
    ),
]


def _openai(protocol: str, form: str, **more: Any) -> ProtocolCase:
    row: dict[str, Any] = {
        "media_type": "audio/wav",
        "whole": lambda _: wire.tagged_wav(0),
        "keeps": False,
        "most": 1,
        "settings": VoiceSettings(voice="alloy", model="m"),
        "also": ("application/octet-stream",),
        "text": _SHORT,
    }
    return ProtocolCase(protocol=protocol, form=form, **{**row, **more})


_UNSIZED = wire_openai.unsized(wire.tagged_wav(0))
_LISTED = {"media_type": "application/json", "whole": wire_openai.batch_body, "most": 32, "also": ()}
OPENAI = [
    _openai("openai", "wav"),
    _openai("openai:openai", "unsized", whole=lambda _: _UNSIZED, framed=False),
    _openai(
        "openai:xinference",
        "events",
        media_type=wire_openai.SSE,
        whole=lambda _: wire_openai.delta(wire.tagged_wav(0), "wav") + wire_openai.done(),
        framed=False,
    ),
    _openai("openai:vox-box", "wav", media_type="audio/x-wav"),
    _openai("openai:triton-bridge", "wav"),
    _openai("openai:async-cosyvoice", "wav"),
    _openai("openai:siliconflow", "octets", media_type="application/octet-stream"),
    _openai("openai:vllm-omni", "batch", **_LISTED),
    _openai("openai:sglang-omni", "batch", **{**_LISTED, "settings": VoiceSettings(voice=wire_runtime.CLONE)}),
]

CASES = [*BATCH, *RUNTIME, *GRPC, *WEBSOCKET, *OPENAI]

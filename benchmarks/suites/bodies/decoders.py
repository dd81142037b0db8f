"""Ways to make audio of one reply's bytes, without a network: each gets a file and returns a list of audio."""

from __future__ import annotations

import base64
import binascii
import json
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.prepared import BATCH, MEDIA_TYPES
from benchmarks.harness.texts import texts
from cosyclient.config import WireConfig
from cosyclient.models import Speech, Utterance, VoiceSettings
from cosyclient.protocols.batch.protocol import BatchProtocol
from cosyclient.protocols.codecs import strict
from cosyclient.testing import ScriptedReply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHUNK_BYTES: Final = 256 << 10
_binascii: Final = partial(binascii.a2b_base64, strict_mode=True)


def json_decoder(loads: Callable[[bytes], Any], decode: Callable[[str], bytes]) -> Callable[[bytes], list[bytes]]:
    """Return a decoder of a whole JSON reply that reads it with *loads*, and each speech's base64 with *decode*."""
    return lambda content: [decode(each["audio_data"]) for each in loads(content)["results"]]


def orjson_decoder(decode: Callable[[str], bytes] | None = None) -> Callable[[bytes], list[bytes]]:
    """Return one that reads with orjson; without *decode*, base64 is pybase64's."""
    return json_decoder(
        import_module("orjson").loads, decode or partial(import_module("pybase64").b64decode, validate=True)
    )


def msgspec_decoder() -> Callable[[bytes], list[bytes]]:
    """Return one into typed records, whose audio msgspec itself turns into bytes."""
    import msgspec

    result = msgspec.defstruct("Result", [("index", int), ("status", str), ("audio_data", bytes)])
    decoder = msgspec.json.Decoder(msgspec.defstruct("Reply", [("results", list[result])]))  # type: ignore[valid-type]
    return lambda content: [each.audio_data for each in decoder.decode(content).results]  # type: ignore[attr-defined]


def _whole(decode: Callable[[bytes], list[bytes]]) -> Callable[[str], list[bytes]]:
    """Read the file whole and *decode* it."""
    return lambda path: decode(Path(path).read_bytes())


def _ours(form: str, *, fast: bool) -> Callable[[str], list[bytes]]:
    class FileReply(ScriptedReply):
        """Read the content from a file, as a transport reads it from a socket."""

        def chunks(self) -> Iterator[bytes]:
            with open(str(self._pieces[0], "utf-8"), "rb", buffering=0) as file:  # type: ignore[arg-type]
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk

    if not fast:
        strict._fast_decoder = lambda: None  # type: ignore[assignment]
    protocol, settings = BatchProtocol(WireConfig()), VoiceSettings()
    utterances = [Utterance(text, settings) for text in texts(BATCH)]

    def decode(path: str) -> list[bytes]:
        reply = FileReply(200, {"content-type": MEDIA_TYPES[form]}, [path.encode()])
        found: list[Any] = [item for items in protocol.decode(reply, utterances, wall=0.0) for _, item in items]
        return [speech.audio for speech in found if isinstance(speech, Speech)]

    return decode


DECODERS: Final[dict[str, tuple[Callable[[], Callable[[str], list[bytes]]], str]]] = {
    "json, base64": (lambda: _whole(json_decoder(json.loads, base64.b64decode)), "json"),
    "json, binascii strict": (lambda: _whole(json_decoder(json.loads, _binascii)), "json"),
    "orjson, binascii strict": (lambda: _whole(orjson_decoder(_binascii)), "json"),
    "orjson, pybase64": (lambda: _whole(orjson_decoder()), "json"),
    "msgspec, typed": (lambda: _whole(msgspec_decoder()), "json"),
    "cosyclient": (lambda: _ours("json", fast=False), "json"),
    "cosyclient, fast": (lambda: _ours("json", fast=True), "json"),
    "cosyclient, frames": (lambda: _ours("frames", fast=False), "frames"),
}
"""What each is called, how it is made, and the form of reply it decodes; ours make whole, checked speeches."""

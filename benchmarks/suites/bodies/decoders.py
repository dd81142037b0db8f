"""Ways to make audio of one reply's bytes, without a network: each gets a file and returns a list of audio."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.suites.bodies.readers import TEXTS, msgspec_decoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHUNK_BYTES: Final = 256 << 10


def _json_binascii() -> Callable[[str], list[bytes]]:
    def decode(path: str) -> list[bytes]:
        results = json.loads(Path(path).read_bytes())["results"]
        return [binascii.a2b_base64(each["audio_data"], strict_mode=True) for each in results]

    return decode


def _json_base64() -> Callable[[str], list[bytes]]:
    def decode(path: str) -> list[bytes]:
        results = json.loads(Path(path).read_bytes())["results"]
        return [base64.b64decode(each["audio_data"]) for each in results]

    return decode


def _orjson_binascii() -> Callable[[str], list[bytes]]:
    import orjson

    def decode(path: str) -> list[bytes]:
        results = orjson.loads(Path(path).read_bytes())["results"]
        return [binascii.a2b_base64(each["audio_data"], strict_mode=True) for each in results]

    return decode


def _orjson_pybase64() -> Callable[[str], list[bytes]]:
    import orjson
    import pybase64

    def decode(path: str) -> list[bytes]:
        results = orjson.loads(Path(path).read_bytes())["results"]
        return [pybase64.b64decode(each["audio_data"], validate=True) for each in results]

    return decode


def _msgspec() -> Callable[[str], list[bytes]]:
    decode = msgspec_decoder()
    return lambda path: decode(Path(path).read_bytes())


def _ours(media_type: str, *, fast: bool) -> Callable[[str], list[bytes]]:
    from benchmarks.harness.texts import texts
    from cosyclient.config import WireConfig
    from cosyclient.models import Speech, Utterance, VoiceSettings
    from cosyclient.protocols.batch.protocol import BatchProtocol
    from cosyclient.protocols.codecs import strict as coding
    from cosyclient.testing import ScriptedReply

    class FileReply(ScriptedReply):
        """Read the content from a file, as a transport reads it from a socket."""

        def chunks(self) -> Iterator[bytes]:
            with open(str(self._pieces[0], "utf-8"), "rb", buffering=0) as file:  # type: ignore[arg-type]
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk

    if not fast:
        coding._fast_decoder = lambda: None  # type: ignore[assignment]
    protocol, settings = BatchProtocol(WireConfig()), VoiceSettings()
    utterances = [Utterance(text, settings) for text in texts(TEXTS)]

    def decode(path: str) -> list[bytes]:
        reply = FileReply(200, {"content-type": media_type}, [path.encode()])
        found: list[Any] = [item for items in protocol.decode(reply, utterances, wall=0.0) for _, item in items]
        return [speech.audio for speech in found if isinstance(speech, Speech)]

    return decode


DECODERS: Final[dict[str, tuple[Callable[[], Callable[[str], list[bytes]]], str]]] = {
    "json, base64": (_json_base64, "json"),
    "json, binascii strict": (_json_binascii, "json"),
    "orjson, binascii strict": (_orjson_binascii, "json"),
    "orjson, pybase64": (_orjson_pybase64, "json"),
    "msgspec, typed": (_msgspec, "json"),
    "cosyclient": (lambda: _ours("application/json", fast=False), "json"),
    "cosyclient, fast": (lambda: _ours("application/json", fast=True), "json"),
    "cosyclient, frames": (
        lambda: _ours("application/vnd.cosyvoice.batch-frames;v=1", fast=False),
        "frames",
    ),
}
"""What each is called, how it is made, and the form of reply it decodes; ours make whole, checked speeches."""

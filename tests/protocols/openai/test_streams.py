"""What OpenAI-compatible servers stream, three ways and then some: the same samples, and every fault told."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from cosyclient.config import WireConfig
from cosyclient.errors import BadRequest, CosyError, DecodeError, ServiceFault, TransportError
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.protocols.base import PcmFormat
from cosyclient.protocols.openai.protocol import OpenAISpeechProtocol
from cosyclient.testing import ScriptedReply
from tests.protocols import wire, wire_openai
from tests.protocols.wire_openai import DONE, SSE, audio, chunk, delta, done, event, failed

TEXT = "你好"
PCM = struct.pack("<2400h", *range(2400))

WIDE = b"".join(b"\7" + PCM[place : place + 2] for place in range(0, len(PCM), 2))
"""The same with 24 bits."""


def stream(
    reply: ScriptedReply, dialect: str = "", text: str = TEXT, **settings: Any
) -> tuple[PcmFormat | None, bytes, CosyError | None]:
    """Return the head and the samples of a stream, and the error that ended it."""
    protocol = OpenAISpeechProtocol(WireConfig(), dialect=dialect)
    head: PcmFormat | None = None
    found = b""
    try:
        for piece in protocol.decode_stream(reply, Utterance(text, VoiceSettings(format="pcm", **settings)), wall=0.0):
            if isinstance(piece, PcmFormat):
                assert head is None
                head = piece
            else:
                found += piece
    except CosyError as error:
        return head, found, error
    return head, found, None


@pytest.mark.parametrize("size", [0, 1, 777])
@pytest.mark.parametrize(
    ("kind", "body", "head"),
    [
        ("audio/pcm", PCM, PcmFormat(24000)),
        ("application/octet-stream", PCM, PcmFormat(24000)),
        ("audio/L16;rate=22050;channels=1", PCM, PcmFormat(22050)),
        ("audio/wav", wire_openai.unsized(wire_openai.wav(PCM, 16000)), PcmFormat(16000)),
        ("audio/pcm", wire_openai.wav(PCM, 22050), PcmFormat(22050)),
        (SSE, delta(PCM[:1001]) + delta(b"") + b": ping\r\n\r\n" + delta(PCM[1001:]) + done(), PcmFormat(24000)),
        (
            SSE,
            delta(wire_openai.unsized(wire_openai.wav(PCM[:900], 16000)), "wav") + delta(PCM[900:]) + done(),
            PcmFormat(16000),
        ),
        (SSE, chunk(PCM[:400], rate=22050) + chunk(PCM[400:], 1, 22050) + chunk(None, 2) + DONE, PcmFormat(22050)),
        (SSE, chunk(wire_openai.wav(PCM[:400])) + chunk(wire_openai.wav(PCM[400:])) + DONE, PcmFormat(24000)),
        ("audio/wav", wire_openai.wav(PCM[:400]) + wire_openai.wav(PCM[400:]), PcmFormat(24000)),
        ("", wire_openai.wav(WIDE, 16000, bits=24), PcmFormat(16000)),
        ("text/plain", wire_openai.unsized(wire_openai.wav(PCM[:400])) + wire_openai.wav(PCM[400:]), PcmFormat(24000)),
        (SSE, delta(wire_openai.wav(WIDE[:900], bits=24), "wav") + delta(WIDE[900:]) + done(), PcmFormat(24000)),
        ("", PCM, PcmFormat(24000)),
        ("binary/octet-stream", PCM, PcmFormat(24000)),
        ("audio/mpeg", PCM, PcmFormat(24000)),
    ],
)
def test_every_form_of_stream_has_the_same_samples(size: int, kind: str, body: bytes, head: PcmFormat) -> None:
    """The media type says which it is, in whatever pieces it comes."""
    assert stream(ScriptedReply(200, {"Content-Type": kind}, wire.pieces(body, size))) == (head, PCM, None)


@pytest.mark.parametrize(
    ("kind", "body", "kind_of_error", "came"),
    [
        (SSE, delta(PCM), DecodeError, True),
        (SSE, chunk(PCM), DecodeError, True),
        (SSE, delta(PCM) + b"data: {oops}\n\n", DecodeError, True),
        (SSE, delta(PCM) + event({"type": "speech.audio.delta", "audio": "=?="}), DecodeError, True),
        (SSE, delta(PCM) + b"data: 17\n\n", DecodeError, True),
        (SSE, delta(PCM) + failed(), ServiceFault, True),
        (SSE, failed("too long", 400, "BadRequestError"), BadRequest, False),
        (SSE, event({"error": {"message": "queue full", "type": "server_error", "code": None}}), ServiceFault, False),
        (SSE, event("{}", name="error"), ServiceFault, False),
        (SSE, chunk(PCM) + chunk(PCM, 1, 16000) + DONE, DecodeError, True),
        (SSE, delta(b"RIFF....WAVE") + done(), DecodeError, False),
        ("audio/wav", wire_openai.wav(PCM)[:1000], DecodeError, True),
        ("application/json", b'{"status_code":503,"detail":"loading","headers":null}', ServiceFault, False),
        ("application/json", b"", DecodeError, False),
        ("application/json", b'{"audio": "no error"}', DecodeError, False),
        ("text/html", PCM, DecodeError, False),
    ],
)
def test_errors_in_a_stream_are_classified(kind: str, body: bytes, kind_of_error: type[CosyError], came: bool) -> None:
    """After 200 as before it; nothing ends as if it were whole."""
    _, found, error = stream(audio(kind, body))
    assert type(error) is kind_of_error
    assert bool(found) is came
    assert "BadRequest" in str(error) or error.retryable or "rate" in str(error) or "WAV" in str(error)


def test_a_stream_that_breaks_off_keeps_the_transports_error() -> None:
    """It is the wire's fault, not the decoder's."""
    _, found, error = stream(audio("audio/pcm", PCM, TransportError("reset")))
    assert found == PCM
    assert isinstance(error, TransportError)


def test_a_stream_with_sentences_left_out_is_refused() -> None:
    """Its end looks whole."""
    assert isinstance(stream(audio("audio/pcm", PCM), text="字" * 50)[2], DecodeError)


def test_the_label_of_the_triton_bridge_is_ignored() -> None:
    """It is a number from a command line, and Triton makes 24,000 Hz."""
    assert stream(audio("audio/L16;rate=16000;channels=1", PCM), "triton-bridge")[0] == PcmFormat(24000)

"""`replies.pcm`: replies of raw samples are recognised by their first bytes, and become speeches."""

from __future__ import annotations

import struct

import pytest

from cosyclient.audio import wav_bytes
from cosyclient.audio.format import PcmFormat
from cosyclient.errors import DecodeError, TransportError
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.protocols.replies.pcm import read_pcm, speech_from_pcm, speech_from_stream
from cosyclient.testing import ScriptedReply

SAMPLES = struct.pack("<2400h", *range(2400))
TEXT = Utterance("hi", VoiceSettings(format="wav"))


def read(*chunks: bytes, kind: str = "") -> list[PcmFormat | bytes]:
    """Return what `read_pcm` yields of a reply."""
    headers = {"Content-Type": kind} if kind else {}
    return list(read_pcm(ScriptedReply(200, headers, list(chunks)), TEXT))


@pytest.mark.parametrize("kind", ["", "audio/pcm", "application/octet-stream", "audio/wav"])
def test_samples_are_yielded_behind_their_format(kind: str) -> None:
    """That of a WAV header, if they have one, and the requested one otherwise; an empty reply yields nothing."""
    first, *rest = read(SAMPLES[:5], SAMPLES[5:], kind=kind)
    assert first == PcmFormat(24000)
    assert b"".join(piece for piece in rest if isinstance(piece, bytes)) == SAMPLES
    first, *rest = read(wav_bytes(SAMPLES, 16000), kind=kind)
    assert first == PcmFormat(16000)
    assert b"".join(piece for piece in rest if isinstance(piece, bytes)) == SAMPLES
    assert read(kind=kind) == []


@pytest.mark.parametrize(
    ("chunks", "kind", "message"),
    [
        ([b"Internal Server Error, please try again later", b"."], "", "text instead of samples"),
        ([b"OggS" + bytes(100)], "", "asked for pcm, got ogg"),
        ([SAMPLES], "text/html", "the reply calls it another media type"),
    ],
)
def test_anything_else_is_a_retryable_error(chunks: list[bytes], kind: str, message: str) -> None:
    """Text, another format, another media type."""
    with pytest.raises(DecodeError, match=message) as caught:
        read(*chunks, kind=kind)
    assert caught.value.retryable


def test_a_hint_explains_an_end_before_the_first_byte() -> None:
    """The endpoint is not to blame then."""
    reply = ScriptedReply(200, {}, [TransportError("it ended")])
    with pytest.raises(TransportError, match="it ended; the model is unknown") as caught:
        list(read_pcm(reply, TEXT, hint="the model is unknown"))
    assert not caught.value.endpoint_fault


def test_samples_become_a_speech_in_the_requested_format() -> None:
    """A WAV file gets a header; an incomplete frame is an error."""
    assert speech_from_pcm(TEXT, SAMPLES).audio == wav_bytes(SAMPLES, 24000)
    speech = speech_from_stream(TEXT, [PcmFormat(8000, 2), SAMPLES])
    assert (speech.audio, speech.sample_rate, speech.channels) == (wav_bytes(SAMPLES, 8000, 2), 8000, 2)
    raw = Utterance("hi", VoiceSettings(format="pcm"))
    assert speech_from_pcm(raw, SAMPLES).audio == SAMPLES
    with pytest.raises(DecodeError, match="inside a frame"):
        speech_from_pcm(TEXT, SAMPLES[:-1])

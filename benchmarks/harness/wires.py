"""Prepare what the services of the benchmarks answer: the plain wire, and frames of compressed audio."""

from __future__ import annotations

from functools import cache
from typing import Final

from benchmarks.harness.gateway import Reply
from benchmarks.harness.prepared import BATCH, Replies, wav
from benchmarks.harness.texts import text
from benchmarks.peers.before import BeforeClient
from cosyclient.emulator import running

PLAIN: Final = "wav"
"""The format that is asked for on the plain wire."""
PLAIN_BYTES: Final = 19_244
"""Bytes of audio a text on the plain wire: 0.4 s of WAV."""
MEDIA_TYPES: Final = {"wav": "audio/wav", "opus": "audio/ogg;codecs=opus", "mp3": "audio/mpeg"}


def replies(audio: str) -> Replies:
    """Return the replies to requests for *audio*: JSON of 0.4 s for WAV, frames of 4 s for what is compressed."""
    if audio == PLAIN:
        return Replies("json", wav(PLAIN_BYTES), duration_ms=400)
    return Replies("frames", speech(audio), MEDIA_TYPES[audio], duration_ms=4000)


def reply(audio: str) -> Reply:
    """Return the same for a gateway, for up to `BATCH` texts a request."""
    found = replies(audio)
    return Reply(bodies=[found.body(count) for count in range(1, BATCH + 1)], media_type=found.media_type)


@cache
def speech(audio: str) -> bytes:
    """Return four seconds of *audio*, from an emulator."""
    with running(engine="tone") as service, BeforeClient(service.url, format=audio) as client:
        return client.synthesize(text(0))

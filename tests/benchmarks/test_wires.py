"""What services answer on the plain wire and in frames."""

from __future__ import annotations

import base64
import json

import pytest

from benchmarks.harness.wires import PLAIN_BYTES, replies, reply, speech
from cosyclient.protocols.batch.frames import FrameDecoder


def test_the_plain_wire_is_json_with_wav() -> None:
    """0.4 s a text, for every number of texts in a request."""
    found = reply("wav")
    assert (found.media_type, len(found.bodies)) == ("application/json", 64)
    for count in (1, 64):
        document = json.loads(found.bodies[count - 1])
        audio = [base64.b64decode(item["audio_data"]) for item in document["results"]]
        assert len(audio) == count
        assert all(each[:4] == b"RIFF" and len(each) == pytest.approx(PLAIN_BYTES, rel=0.02) for each in audio)


def test_compressed_audio_comes_in_frames() -> None:
    """What an emulator makes of a text."""
    decoder = FrameDecoder()
    items = [frame for frame in decoder.feed(replies("opus").body(2)) if frame.kind == "item"]
    decoder.close()
    assert [item.payload for item in items] == [speech("opus")] * 2
    assert speech("opus").startswith(b"OggS")

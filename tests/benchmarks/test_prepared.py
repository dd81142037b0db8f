"""Prepared replies: as many items as were asked for, each with the same audio."""

from __future__ import annotations

import json

import pytest

from benchmarks.harness.prepared import Replies, wav
from benchmarks.harness.transports import InstantTransport
from cosyclient.protocols.batch.frames import FrameDecoder
from cosyclient.wire import WireRequest

SIZE = 1_000


@pytest.mark.parametrize("form", ["frames", "json"])
@pytest.mark.parametrize("count", [1, 64])
def test_prepared_replies_are_whole(form: str, count: int) -> None:
    """As many items as were asked for, each with the same audio."""
    content = Replies(form, wav(SIZE)).body(count)
    if form == "json":
        reply = json.loads(content)
        assert (reply["total"], [each["index"] for each in reply["results"]]) == (count, list(range(count)))
        return
    decoder = FrameDecoder()
    items = [frame for frame in decoder.feed(content) if frame.kind == "item"]
    decoder.close()
    assert [(item.header["index"], item.payload) for item in items] == [(index, wav(SIZE)) for index in range(count)]


def test_the_instant_transports_reply_is_what_a_service_would_send() -> None:
    """Frames of any audio, with what an item says of it."""
    replies = Replies("frames", b"sound", "audio/mpeg", duration_ms=4000)
    transport = InstantTransport(replies.media_type, replies.body(3))
    reply = transport.send(WireRequest(method="POST", path="/batch", headers=(), body=b""))
    decoder = FrameDecoder()
    items = [frame for frame in decoder.feed(b"".join(reply.chunks())) if frame.kind == "item"]
    decoder.close()
    assert [(frame.header["index"], frame.payload) for frame in items] == [(0, b"sound"), (1, b"sound"), (2, b"sound")]
    assert {frame.header["duration_ms"] for frame in items} == {4000}
    assert transport.stats().in_use == 0

"""The batch protocol's frames, and replies that are no batch at all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.errors import (
    BadRequest,
    DecodeError,
    ServiceFault,
    TransportError,
)
from cosyclient.protocols.base import Quota
from cosyclient.testing import ScriptedReply
from tests.protocols import wire
from tests.protocols.reading import PLAIN, assert_tagged, decode


@given(st.permutations(range(5)), st.integers(1, 5000))
@settings(deadline=None)
def test_frames_in_any_order_and_split_reach_their_texts(order: list[int], split: int) -> None:
    """The index decides, not the order of arrival."""
    utterances = wire.texts(5)
    found, error = decode(wire.frames_reply(wire.frames_body(5, order), split), utterances)
    assert error is None
    assert list(found) == order
    assert_tagged(found, utterances)


WHOLE = wire.frames_body(4)


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 3000), st.booleans())
@settings(deadline=None)
def test_items_before_a_cut_of_frames_are_yielded(cut: int, split: int, broken: bool) -> None:
    """Complete items stand; then comes an error that may be retried, ours or the transport's."""
    utterances = wire.texts(4)
    pieces: list[bytes | Exception] = [*wire.pieces(WHOLE[:cut], split)]
    if broken:
        pieces.append(TransportError("reset"))
    found, error = decode(ScriptedReply(200, {"Content-Type": wire.FRAMES_TYPE}, pieces), utterances)
    assert_tagged(found, utterances)
    assert isinstance(error, TransportError if broken else DecodeError)
    assert error.retryable


def test_an_item_is_yielded_before_the_next_arrives() -> None:
    """Nothing waits for the end of the reply."""
    first = [wire.frame(wire.opening(2)), wire.frame(wire.item(0), wire.tagged_wav(0))]
    pieces: list[bytes | Exception] = [*first, RuntimeError("read too far")]
    items = PLAIN.decode(ScriptedReply(200, {"Content-Type": wire.FRAMES_TYPE}, pieces), wire.texts(2), wall=0.0)
    assert [index for index, _ in next(items)] == [0]


def frames(*headers: dict[str, Any]) -> ScriptedReply:
    """Return a reply of these frames, each item with the audio of its index."""
    return wire.frames_reply(
        b"".join(
            wire.frame(each, wire.tagged_wav(each["index"]) if each.get("status") == "success" else b"")
            for each in headers
        )
    )


@pytest.mark.parametrize(
    ("reply", "kept", "match"),
    [
        (frames(wire.opening(3), wire.item(0)), 0, "3 results announced for 2 texts"),
        (frames(wire.opening(1), wire.item(0), wire.end(1)), 0, "1 results announced for 2 texts"),
        (frames(wire.opening(None), wire.end(0)), 0, "no readable number of results"),
        (frames(wire.opening(2), wire.item(0), wire.item(0)), 1, "two results for text 0"),
        (
            frames(wire.opening(2), wire.item(0), wire.item(2)),
            1,
            "the reply has index 2; only 0 to 1 were sent",
        ),
        (frames(wire.opening(2), {"kind": "item", "status": "error"}), 0, "names no index"),
        (frames(wire.opening(2), wire.failed(0), {**wire.failed(1), "index": True}), 1, "names no index"),
        (frames(wire.opening(2), {**wire.failed(0), "index": -1}), 0, "only 0 to 1 were sent"),
        (frames(wire.opening(2), wire.item(0), wire.end(1)), 1, "no result for 1 of 2 texts, first 1"),
        (frames(wire.opening(2), wire.item(0), wire.item(1), wire.end(1)), 2, "end frame announces 1 and 0"),
    ],
)
def test_inconsistent_frames_are_errors(reply: ScriptedReply, kept: int, match: str) -> None:
    """A wrong count or index is never put right in silence, and trying again is not promised to help."""
    utterances = wire.texts(2)
    found, error = decode(reply, utterances)
    assert len(found) == kept
    assert match in str(error)
    assert isinstance(error, DecodeError)
    assert not error.retryable


def test_failed_items_do_not_affect_others() -> None:
    """Each text has its own outcome."""
    reply = frames(
        wire.opening(3),
        wire.failed(2, code="text_too_long", detail="at most 4096", retryable=False, retry_after_ms=None),
        wire.item(1),
        wire.failed(0, code="overloaded", retryable=True, retry_after_ms=1500),
        wire.end(1, 2),
    )
    utterances = wire.texts(3)
    found, error = decode(reply, utterances)
    assert error is None
    assert_tagged({1: found[1]}, utterances)
    assert isinstance(found[2], BadRequest)
    assert str(found[2]) == "item failed text_too_long: at most 4096"
    assert (found[2].retryable, found[2].code, found[2].status) == (False, "text_too_long", 200)
    assert isinstance(found[0], ServiceFault)
    assert (found[0].retryable, found[0].endpoint_fault, found[0].retry_after) == (True, False, 1.5)


@pytest.mark.parametrize(
    ("reply", "match"),
    [
        (ScriptedReply(200, {"Content-Type": "text/html"}, [b"<!DOCTYPE html><p>secret"]), "text/html (HTML or XML)"),
        (ScriptedReply(200, {"Content-Type": "text/css"}, [b'{"results":[]}']), "text/css (JSON)"),
        (ScriptedReply(200, {"Content-Type": "nonsense"}, [b"\x1f\x8b\x08"]), "no media type (gzip)"),
        (ScriptedReply(200, {"Content-Type": "audio/wav"}, [b"", b"RIFF...."]), "audio/wav (WAV)"),
        (ScriptedReply(200, {"Content-Type": "text/plain"}, [b"all is well"]), "text/plain (text)"),
        (ScriptedReply(200, {"Content-Type": "application/octet-stream"}, [b"\0\1\2"]), "(binary)"),
        (ScriptedReply(200, {"Content-Type": "text/plain"}), "text/plain (empty)"),
        (ScriptedReply(200, {"Content-Type": wire.FRAMES_TYPE}), "the reply ends between two frames"),
        (ScriptedReply(204), "HTTP 204: not a finished reply"),
        (ScriptedReply(202, {"Content-Type": "application/json"}, [b"{}"]), "HTTP 202: not a finished reply"),
        (ScriptedReply(206, {"Content-Type": wire.FRAMES_TYPE}, [b""]), "HTTP 206: not a finished reply"),
        (ScriptedReply(103), "HTTP 103: not a finished reply"),
    ],
)
def test_a_success_without_a_batch_is_a_retryable_error(reply: ScriptedReply, match: str) -> None:
    """The status alone proves nothing; the message names kinds and never content."""
    found, error = decode(reply, wire.texts(1))
    assert found == {}
    assert isinstance(error, DecodeError)
    assert error.retryable
    assert match in str(error)
    assert "secret" not in str(error)


def test_quota_is_read_from_the_reply() -> None:
    """The protocol knows which headers its services send."""
    reply = ScriptedReply(200, {"RateLimit-Policy": '"ip";q=100;w=1', "RateLimit": '"ip";r=37;t=1'})
    assert PLAIN.quota(reply) == Quota(limit=100, window=1, remaining=37, reset=1)
    assert PLAIN.quota(ScriptedReply(200)) is None

"""Faults of the items inside a reply that arrives in good order."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING

import pytest

from tests.emulator.wire import FRAMES, parse_frames, post

if TYPE_CHECKING:
    from cosyclient.emulator import Emulator

BATCH = {"texts": ["一", "二", "三"]}


@pytest.mark.parametrize(("delta", "count"), [(-1, 2), (-3, 0), (1, 4)])
def test_wrong_count_has_fewer_or_more_items(emulator: Emulator, delta: int, count: int) -> None:
    """The reply is consistent, but has another number of items than the request."""
    emulator.inject("wrong_count", delta=delta, count=2)
    reply = post(emulator.url, BATCH).json()
    assert reply["total"] == len(reply["results"]) == count
    frames = parse_frames(post(emulator.url, BATCH, accept=FRAMES).body)
    assert frames.head["total"] == len(frames.items) == count


def test_wrong_index_is_out_of_range_or_a_repetition(emulator: Emulator) -> None:
    """The last item has another index."""
    emulator.inject("wrong_index")
    assert [item["index"] for item in post(emulator.url, BATCH).json()["results"]] == [0, 1, 3]
    emulator.inject("wrong_index", index=0)
    assert [item["index"] for item in post(emulator.url, BATCH).json()["results"]] == [0, 1, 0]


def test_failed_items_can_be_a_share(emulator: Emulator) -> None:
    """All of them, or none."""
    emulator.inject("failed_items", share=1.0)
    assert post(emulator.url, BATCH).json()["failed"] == 3
    emulator.inject("failed_items", share=0.0)
    assert post(emulator.url, BATCH).json()["failed"] == 0
    assert emulator.counters().items_failed == 3


def test_not_audio_replaces_chosen_items(emulator: Emulator) -> None:
    """The payload is a web page, the header says audio."""
    emulator.inject("not_audio", indices=[1])
    frames = parse_frames(post(emulator.url, BATCH, accept=FRAMES).body)
    assert frames.audio[0][:4] == frames.audio[2][:4] == b"RIFF"
    assert frames.audio[1].startswith(b"<!doctype html>")
    assert frames.items[1]["media_type"] == "audio/wav"


def test_truncated_audio_promises_more_than_it_holds(emulator: Emulator) -> None:
    """The WAV header announces samples that do not follow."""
    emulator.inject("truncated_audio")
    results = post(emulator.url, BATCH).json()["results"]
    for item in results:
        audio = base64.b64decode(item["audio_data"])
        (announced,) = struct.unpack_from("<I", audio, 40)
        assert announced > len(audio) - 44 > 0

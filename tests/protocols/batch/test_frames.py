"""The frame decoder: any split gives the same frames, every cut is noticed, nothing is allocated on a promise."""

from __future__ import annotations

import json
import random
import struct
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.errors import DecodeError
from cosyclient.protocols.batch.frames import Frame, FrameDecoder
from tests.protocols import wire


def read(chunks: list[bytes], decoder: FrameDecoder | None = None) -> list[Frame]:
    """Return the frames of a whole body."""
    decoder = decoder or FrameDecoder()
    found = [frame for chunk in chunks for frame in decoder.feed(chunk)]
    decoder.close()
    return found


def read_until_error(chunks: list[bytes]) -> tuple[list[Frame], DecodeError | None]:
    """Return the frames that came before the error, and the error."""
    decoder, found = FrameDecoder(), []
    try:
        for chunk in chunks:
            for frame in decoder.feed(chunk):
                found.append(frame)  # noqa: PERF402 - those before an error are wanted too
        decoder.close()
    except DecodeError as error:
        return found, error
    return found, None


BODY = wire.frames_body(3, order=[2, 0, 1])


@given(st.lists(st.integers(0, len(BODY)), max_size=40))
@settings(deadline=None)
def test_any_split_gives_the_same_frames(cuts: list[int]) -> None:
    """Where the network cuts the bytes makes no difference."""
    edges = [0, *sorted(cuts), len(BODY)]
    chunks = [BODY[start:stop] for start, stop in pairwise(edges)]
    assert read(chunks) == read([BODY])


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 4095, 4096, 4097])
def test_pieces_of_one_size_give_the_same_frames(size: int) -> None:
    """Small pieces are gathered, large ones kept as they came; both make the same payload."""
    assert read(wire.pieces(BODY, size)) == read([BODY])


@given(st.integers(0, len(BODY) - 1), st.integers(0, 600))
@settings(deadline=None)
def test_every_cut_gives_whole_frames_then_a_retryable_error(cut: int, size: int) -> None:
    """A body that breaks off keeps what was complete and says that something is missing."""
    found, error = read_until_error(wire.pieces(BODY[:cut], size))
    assert found == read([BODY])[: len(found)]
    assert all(frame.payload == wire.tagged_wav(frame.header["index"]) for frame in found if frame.kind == "item")
    assert error is not None
    assert error.retryable


@given(st.binary(max_size=4096), st.integers(0, 600))
@settings(deadline=None)
def test_noise_is_an_error_and_never_a_crash(noise: bytes, size: int) -> None:
    """Whatever comes in, a `DecodeError` comes out, the same for every split."""
    found, error = read_until_error(wire.pieces(noise, size))
    assert (found, str(error)) == ([], str(read_until_error([noise])[1]))


def test_ten_megabytes_of_noise_end_at_the_first_prefix() -> None:
    """Garbage is not collected before it is refused."""
    noise = random.Random(7).randbytes(10 << 20)
    with pytest.raises(DecodeError, match="are accepted") as caught:
        read(wire.pieces(noise, 65536))
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("prefix", "match"),
    [
        ((0, 0), "a header of 0 bytes"),
        ((65537, 0), "a header of 65537 bytes, 1 to 65536"),
        ((0xFFFFFFFF, 0xFFFFFFFF), "a header of 4294967295"),
        ((10, (64 << 20) + 1), "a payload of 67108865 bytes, at most 67108864"),
    ],
)
def test_lengths_are_checked_before_anything_is_buffered(prefix: tuple[int, int], match: str) -> None:
    """A promise of gigabytes costs nothing."""
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match=match):
            read([struct.pack(">II", *prefix)])
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_an_announced_payload_takes_no_memory_until_it_arrives() -> None:
    """Sixty-four megabytes announced, eight bytes there."""
    tracemalloc.start()
    try:
        header = json.dumps(wire.item(0)).encode()
        opening = wire.frame(wire.opening(1))
        decoder = FrameDecoder()
        for _ in decoder.feed(opening + struct.pack(">II", len(header), 64 << 20) + header + bytes(8)):
            pass
        assert tracemalloc.get_traced_memory()[1] < 100_000
        assert repr(decoder) == "<FrameDecoder 0 items, inside a payload, 8 of 67108864 bytes there>"
    finally:
        tracemalloc.stop()


def test_a_payload_is_held_about_once() -> None:
    """A payload of 8 MiB arriving in pieces peaks at its pieces and their sum, whatever the size of the pieces."""
    payload = bytes(8 << 20)
    body = wire.frame(wire.opening(1)) + wire.frame(wire.item(0), payload) + wire.frame(wire.end(1))
    for size in (512, 65536):
        decoder = FrameDecoder()
        tracemalloc.start()
        try:
            for start in range(0, len(body), size):
                for frame in decoder.feed(body[start : start + size]):
                    assert len(frame.payload) in (0, len(payload))
            assert tracemalloc.get_traced_memory()[1] < 2.4 * len(payload)
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (wire.frame(wire.item(0), b"x"), "first is no batch"),
        (wire.frame({"kind": "later"}), "first is no batch"),
        (wire.frame(wire.opening(1)) * 2, "second batch"),
        (wire.frame([1]), "not an object with a kind"),
        (wire.frame({"index": 0}), "not an object with a kind"),
        (wire.frame({"kind": 3}), "not an object with a kind"),
        (wire.frame(b"{nonsense"), "is not JSON"),
        (wire.frame(b"\xff\xfe\xfd"), "is not JSON"),
        (wire.frame(b"[" * 60000), "is not JSON"),
        (wire.frame(wire.opening(1), b"x"), "carries 1 bytes"),
        (wire.frame(wire.opening(0)) + wire.frame(wire.end(0), b"x"), "carries 1 bytes"),
        (wire.frame(wire.opening(1)) + wire.frame(wire.end(1)), "announces 1 and 0"),
        (wire.frame(wire.opening(1)) + wire.frame({"kind": "end"}), "announces something else"),
        (wire.frame(wire.opening(1)) + wire.frame({"kind": "end", "succeeded": 10**400}), "something else"),
        (wire.frames_body(1) + b"\0", "after the end"),
        (wire.frames_body(1) + wire.frames_body(1), "after the end"),
    ],
)
def test_replies_that_are_no_frames_are_errors(body: bytes, match: str) -> None:
    """Each rule of the format has its message."""
    with pytest.raises(DecodeError, match=match):
        read([body])


def test_an_unknown_kind_is_skipped_and_not_buffered() -> None:
    """A later version may add kinds of frames."""
    parts = [wire.opening(1), wire.item(0), wire.end(1)]
    body = b"".join(
        (
            wire.frame(parts[0]),
            wire.frame({"kind": "progress", "done": 0.5}, bytes(1 << 20)),
            wire.frame(parts[1], b"RIFF"),
            wire.frame({"kind": "progress"}),
            wire.frame(parts[2]),
        )
    )
    decoder = FrameDecoder()
    assert [frame.header for frame in read(wire.pieces(body, 1000), decoder)] == parts
    assert decoder.ended


def test_the_repr_shows_the_state() -> None:
    """The decoder's repr is a status line."""
    decoder = FrameDecoder()
    lines: list[Any] = [repr(decoder)]
    body = wire.frames_body(1)
    for start, stop in ((0, 3), (3, 20), (20, len(body) - 1), (len(body) - 1, len(body))):
        kinds = [repr(frame) for frame in decoder.feed(body[start:stop])]
        lines += [repr(decoder), *kinds]
    opening_bytes = len(wire.frame(wire.opening(1))) - 8
    end_bytes = len(wire.frame(wire.end(1))) - 8
    assert lines == [
        "<FrameDecoder 0 items, between two frames>",
        "<FrameDecoder 0 items, inside a prefix>",
        f"<FrameDecoder 0 items, inside a header, 12 of {opening_bytes} bytes there>",
        f"<FrameDecoder 1 items, inside a header, {end_bytes - 1} of {end_bytes} bytes there>",
        "<Frame batch, 0 bytes>",
        f"<Frame item, {len(wire.tagged_wav(0))} bytes>",
        "<FrameDecoder 1 items, ended>",
        "<Frame end, 0 bytes>",
    ]

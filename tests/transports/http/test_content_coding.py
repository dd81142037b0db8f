"""Content codings, decoded step by step."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.errors import DecodeError, TransportError
from cosyclient.transports.http.content_coding import STEP_BYTES, ContentDecoder

CONTENT = bytes(range(256)) * 1000


def decoded(coding: str, data: bytes, *, limit: int = 1 << 30, step: int = 1000) -> bytes:
    decoder = ContentDecoder(coding, limit)
    pieces = [piece for start in range(0, len(data), step) for piece in decoder.decode(data[start : start + step])]
    decoder.finish()
    assert all(len(piece) <= max(STEP_BYTES, min(step, 256 << 10)) for piece in pieces)
    return b"".join(pieces)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("", CONTENT),
        ("identity", CONTENT),
        ("gzip", gzip.compress(CONTENT)),
        (" X-GZIP ", gzip.compress(CONTENT)),
        ("gzip", gzip.compress(CONTENT[:1000]) + gzip.compress(CONTENT[1000:])),
        ("gzip", gzip.compress(CONTENT) + b"\0\0padding"),
        ("deflate", zlib.compress(CONTENT)),
        ("deflate", raw_deflate(CONTENT)),
    ],
    ids=["none", "identity", "gzip", "x-gzip", "two members", "padded", "zlib", "raw deflate"],
)
@pytest.mark.parametrize("step", [1, 7, 65536, 1 << 20])
def test_each_coding_is_decoded(coding: str, data: bytes, step: int) -> None:
    """However the bytes arrive."""
    assert decoded(coding, data, step=step) == CONTENT


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_empty_content_is_valid_in_any_coding(coding: str) -> None:
    """A 204 may name a coding."""
    assert decoded(coding, b"") == b""


@settings(deadline=None)
@given(cut=st.integers(1, 200))
def test_a_stream_that_ends_too_soon_is_a_transport_error(cut: int) -> None:
    """A retry may bring the rest."""
    data = gzip.compress(b"hello" * 100)
    with pytest.raises(TransportError, match="ended within"):
        decoded("gzip", data[: -min(cut, len(data) - 1)])


@pytest.mark.parametrize(
    ("coding", "data"), [("gzip", b"not gzip"), ("deflate", b"\xff\xff\xff\xff"), ("br", b"x"), ("gzip, gzip", b"x")]
)
def test_invalid_content_and_unknown_codings_are_refused(coding: str, data: bytes) -> None:
    with pytest.raises(DecodeError):
        decoded(coding, data)


@pytest.mark.parametrize(("coding", "data"), [("", CONTENT), ("gzip", gzip.compress(CONTENT))])
def test_the_limit_counts_decompressed_bytes(coding: str, data: bytes) -> None:
    """To the byte."""
    assert decoded(coding, data, limit=len(CONTENT)) == CONTENT
    with pytest.raises(DecodeError, match=f"larger than {len(CONTENT) - 1} bytes"):
        decoded(coding, data, limit=len(CONTENT) - 1)

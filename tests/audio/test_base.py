"""`cosyclient.audio.base`: signatures of files."""

from __future__ import annotations

import pytest

from cosyclient.audio.base import sniff


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (b"RIFF\0\0\0\0WAVE", "wav"),
        (b"RF64\0\0\0\0WAVE", "wav"),
        (b"RIFF", "wav"),
        (b"RIFF\0\0\0\0AVI ", None),
        (b"FORM\0\0\0\0AIFC", "aiff"),
        (b"FORM\0\0\0\0ILBM", None),
        (b"OggS", "ogg"),
        (b"ID3\x04", "mp3"),
        (b"ID3\x05", None),
        (b"fLaC", "flac"),
        (b"\0\0\0\x20ftypM4A ", "mp4"),
        (b"\x1aE\xdf\xa3", "webm"),
        (b"\xff\xfb\x90\xc4", None),
        (b"Rif", None),
        (b"", None),
    ],
)
def test_a_signature_tells_the_type_of_file(data: bytes, format: str | None) -> None:
    """Four bytes at least; a container that also holds other media needs its second field, once that is there."""
    assert sniff(data) == format

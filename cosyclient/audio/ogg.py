"""Opus in Ogg, without decoding it: pages from RFC 3533, Opus in them from RFC 7845."""

from __future__ import annotations

import struct
from typing import Final

from cosyclient.audio.base import AudioInfo, truncated_error, wrong_format_error
from cosyclient.audio.mp3 import detect_format
from cosyclient.errors import DecodeError
from cosyclient.util.numbers import valid_sample_rate

_OGG_PAGE: Final = struct.Struct("<5xBq12xB")
_MOST_SECONDS_A_BYTE: Final = 0.12
"""A packet has a byte at least and 120 ms at most."""

_HEADER_BYTES: Final = 4096
_FAINTEST: Final = 700
"""Bytes a second; Opus codes speech with 750 at least."""
_SILENT_BYTES: Final = 3
_ONSET_BYTES: Final = 200
# Fewer are not enough to tell silence from a sound that has just begun.
_TELLING_PACKETS: Final = 12


def inspect_opus(data: bytes, sample_rate: int) -> AudioInfo:
    """Walk the pages; granule positions count 48 kHz samples, the first ``pre-skip`` of which are not played."""
    if not data.startswith(b"OggS"):
        raise wrong_format_error("opus", detect_format(data))
    end = len(data)
    channels, pre_skip, granule, ticks, position, last_flags = 0, 0, 0, 0, 0, 0
    while position < end:
        if data[position : position + 4] != b"OggS":
            raise DecodeError(f"audio: no Ogg page at byte {position} of {end}", retryable=True)
        if position + 27 > end:
            raise truncated_error("opus", f"{end} bytes end inside a page header")
        last_flags, stamp, segments = _OGG_PAGE.unpack_from(data, position)
        table = position + 27
        body = table + segments
        position = body + sum(data[table:body])
        if position > end:
            raise truncated_error("opus", f"a page ends at byte {position}, {end} there")
        if last_flags & 0x02:  # beginning of a logical stream; files may be chained
            if data[body : body + 8] != b"OpusHead" or position - body < 19:
                raise DecodeError("audio: asked for opus, got another codec in Ogg")
            ticks += max(0, granule - pre_skip)
            channels, pre_skip, input_rate = struct.unpack_from("<BHI", data, body + 9)
            # Playback is at 48 kHz; this is what was encoded.
            sample_rate = valid_sample_rate(input_rate) or sample_rate
            granule = 0
        elif stamp > 0:
            granule = stamp
    # RFC 7845 lets players cope with streams that lack the end-of-stream mark. Here a finished file is owed, and a
    # file cut between two pages shows itself in nothing else.
    if not last_flags & 0x04:
        raise truncated_error("opus", "the last page is not marked as the end of the stream")
    ticks += max(0, granule - pre_skip)
    seconds = ticks / 48000 if channels else 0.0
    if seconds > _MOST_SECONDS_A_BYTE * end:
        raise DecodeError(f"audio: opus of {end} bytes that claims {seconds:.3g} s", retryable=True)
    return AudioInfo(sample_rate, channels, seconds)


def opus_is_silence(data: bytes, seconds: float) -> bool:
    """Return whether the packets of *data*, *seconds* long, hold nothing: speech takes hundreds of bytes a second."""
    if len(data) > _HEADER_BYTES + _FAINTEST * seconds:
        return False
    position, pages, packets, size = 0, 0, 0, 0
    while position + 27 <= len(data):
        table = data[position + 27 : position + 27 + data[position + 26]]
        position += 27 + len(table) + sum(table)
        pages += 1
        if pages > 2:  # the first two hold the head and the tags
            size += sum(table)
            packets += sum(each < 255 for each in table)
    return packets >= _TELLING_PACKETS and size <= _SILENT_BYTES * packets + _ONSET_BYTES

"""Inspect Ogg Opus without decoding: pages as in RFC 3533, Opus in them as in RFC 7845, packets as in RFC 6716."""

from __future__ import annotations

import struct
from typing import Final

from cosyclient.audio.base import AudioInfo, truncated_error, wrong_format_error
from cosyclient.audio.mp3 import detect_format
from cosyclient.errors import DecodeError
from cosyclient.util.numbers import valid_sample_rate

_OGG_PAGE: Final = struct.Struct("<5xBq12xB")
_MAX_SECONDS_PER_BYTE: Final = 0.12
"""A packet has at least one byte and lasts at most 120 ms."""

_HEADER_BYTES: Final = 4096
_MAX_SILENT_BYTES_PER_SECOND: Final = 700
"""Opus encodes speech with at least 750."""
_SILENT_PACKET_BYTES: Final = 3
_ONSET_BYTES: Final = 200
# Fewer do not distinguish silence from the onset of a sound.
_MIN_SILENCE_PACKETS: Final = 12


def inspect_opus(data: bytes, sample_rate: int) -> AudioInfo:
    """Return the properties of *data*, one or several chained streams; *sample_rate* applies if a header has none.

    Granule positions count samples at 48 kHz, of which the first ``pre-skip`` are not played. Raises `DecodeError`.
    """
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
            # Playback is at 48 kHz; this is the rate that was encoded.
            sample_rate = valid_sample_rate(input_rate) or sample_rate
            granule = 0
        elif stamp > 0:
            granule = stamp
    # RFC 7845 lets players accept streams without the end-of-stream mark. Here a complete file is expected, and nothing
    # else reveals a file cut between two pages.
    if not last_flags & 0x04:
        raise truncated_error("opus", "the last page is not marked as the end of the stream")
    ticks += max(0, granule - pre_skip)
    seconds = ticks / 48000 if channels else 0.0
    if seconds > _MAX_SECONDS_PER_BYTE * end:
        raise DecodeError(f"audio: opus of {end} bytes that claims {seconds:.3g} s", retryable=True)
    return AudioInfo(sample_rate, channels, seconds)


def opus_is_silence(data: bytes, seconds: float) -> bool:
    """Return whether the packets of *data*, *seconds* long, encode silence: speech takes hundreds of bytes a second."""
    if len(data) > _HEADER_BYTES + _MAX_SILENT_BYTES_PER_SECOND * seconds:
        return False
    position, pages, packets, size = 0, 0, 0, 0
    while position + 27 <= len(data):
        table = data[position + 27 : position + 27 + data[position + 26]]
        position += 27 + len(table) + sum(table)
        pages += 1
        if pages > 2:  # the first two hold header and tags
            size += sum(table)
            packets += sum(each < 255 for each in table)
    return packets >= _MIN_SILENCE_PACKETS and size <= _SILENT_PACKET_BYTES * packets + _ONSET_BYTES

"""`cosyclient.audio.format`: the format of raw samples."""

from __future__ import annotations

from cosyclient.audio.format import PcmFormat
from cosyclient.protocols import base


def test_a_second_has_two_bytes_a_sample_and_channel() -> None:
    """Samples are of 16 bits."""
    assert PcmFormat(24000).bytes_per_second == 48000
    assert PcmFormat(22050, 2).bytes_per_second == 88200


def test_it_is_a_name_of_the_protocols_interface_too() -> None:
    """Where implementers of a protocol find it."""
    assert base.PcmFormat is PcmFormat

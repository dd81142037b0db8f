"""The format of raw samples, which their bytes do not state."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PcmFormat:
    """The format of a stream of samples: signed 16-bit little-endian at ``sample_rate`` Hz, channels interleaved."""

    sample_rate: int
    channels: int = 1

    @property
    def bytes_per_second(self) -> int:
        """Return the bytes of one second of samples."""
        return 2 * self.channels * self.sample_rate

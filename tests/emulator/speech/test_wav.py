"""The header of a WAV file, read with the standard library."""

from __future__ import annotations

import io
import wave

from cosyclient.emulator.speech.wav import HEADER_BYTES, split_wav, wav_header, with_rate, without_sizes

PCM = bytes(range(200))
FILE = wav_header(len(PCM), 16000) + PCM


def test_the_standard_library_reads_the_file() -> None:
    """16-bit mono samples at the given rate."""
    with wave.open(io.BytesIO(FILE)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
        assert file.readframes(1000) == PCM


def test_a_file_of_unknown_length_has_the_largest_sizes() -> None:
    """As a header that is sent before the samples are known."""
    header = wav_header(None, 16000)
    assert (len(header), header[4:8], header[40:]) == (HEADER_BYTES, b"\xff" * 4, b"\xff" * 4)
    assert without_sizes(FILE) == header + PCM


def test_a_claimed_rate_changes_the_header_only() -> None:
    """The rate and the bytes a second agree."""
    assert with_rate(FILE, 48000) == wav_header(len(PCM), 48000) + PCM


def test_a_file_is_split_into_header_and_samples() -> None:
    """Audio of another format has no header."""
    assert split_wav(FILE) == (FILE[:HEADER_BYTES], PCM)
    assert split_wav(PCM) == (b"", PCM)

"""The bulk window: enough texts to fill the requests in flight, within a bound of audio, never less than a batch."""

from __future__ import annotations

from cosyclient.models import VoiceSettings
from cosyclient.pipeline.bulk import BulkWindow

LONG = "字" * 20


def texts_until_full(window: BulkWindow, text: str, most: int = 10_000) -> int:
    """Return how many times *text* is added until the window is full."""
    for count in range(most):
        if not window.has_room:
            return count
        window.add([text])
    return most


def test_small_audio_is_bounded_by_count() -> None:
    """Texts whose audio is small fill all requests in flight."""
    window = BulkWindow(VoiceSettings(format="opus"), texts=2560, least=64, audio_bytes=256 << 20)
    assert texts_until_full(window, LONG) == 2560


def test_wav_is_bounded_by_bytes() -> None:
    """Four seconds at 24 kHz are 192,000 bytes: 256 MiB of them are 1,399 texts."""
    window = BulkWindow(VoiceSettings(format="wav"), texts=2560, least=64, audio_bytes=256 << 20)
    assert texts_until_full(window, LONG) == 1399


def test_rate_speed_and_script_change_the_expected_audio() -> None:
    """Twice the rate is twice the audio, twice the speed half of it; letters are spoken faster than characters."""
    for settings, text, count in (
        (VoiceSettings(sample_rate=48000), LONG, 500),
        (VoiceSettings(), LONG, 1000),
        (VoiceSettings(speed=2.0), LONG, 2000),
        (VoiceSettings(format="pcm"), "a" * 20, 3077),
    ):
        assert texts_until_full(BulkWindow(settings, texts=9000, least=1, audio_bytes=192_000_000), text) == count


def test_a_whole_batch_always_fits() -> None:
    """One request is filled, however long its texts are."""
    window = BulkWindow(VoiceSettings(), texts=2560, least=64, audio_bytes=1)
    assert texts_until_full(window, "字" * 4096) == 64
    assert texts_until_full(BulkWindow(VoiceSettings(), texts=5, least=64, audio_bytes=1), LONG) == 5


def test_audio_that_is_read_makes_room() -> None:
    """As much is subtracted as was added; what is not a text counts as nothing."""
    window = BulkWindow(VoiceSettings(), texts=2560, least=1, audio_bytes=384_000)
    window.add([LONG, LONG, None])
    states = [window.has_room]
    assert repr(window) == "<BulkWindow 3/2560 texts, 0.4 of 0.4 MB expected>"
    window.remove(LONG)
    assert [*states, window.has_room] == [False, True]
    window.remove(None)
    window.remove(LONG)
    assert repr(window) == "<BulkWindow 0/2560 texts, 0.0 of 0.4 MB expected>"


def refresh_capacity(window: BulkWindow) -> None:
    """Ask a full *window* for room until it asks for the capacity anew."""
    window.add([LONG] * 64)
    for _ in range(16):
        _ = window.has_room
    for _ in range(64):
        window.remove(LONG)


def test_the_window_follows_the_capacity_of_the_service() -> None:
    """In texts or in seconds of audio, as they are at the moment; a whole batch always fits."""
    capacity = [(300.0, 1e9)]
    window = BulkWindow(
        VoiceSettings(format="opus"), texts=2560, least=64, audio_bytes=1 << 40, capacity=lambda: capacity[0]
    )
    assert texts_until_full(window, LONG) == 300
    capacity[0] = (1e9, 2000.0)
    refresh_capacity(window)
    assert texts_until_full(window, LONG) == 200
    capacity[0] = (0.0, 0.0)
    refresh_capacity(window)
    assert not window.has_room
    small = BulkWindow(VoiceSettings(), texts=2560, least=64, audio_bytes=1 << 40, capacity=lambda: (1.0, 1.0))
    assert texts_until_full(small, LONG) == 64

"""The bulk window: enough texts to fill the requests in flight, within a bound of audio, never less than a batch."""

from __future__ import annotations

from cosyclient.models import VoiceSettings
from cosyclient.pipeline.bulk import BulkWindow

LONG = "字" * 20


def filled(window: BulkWindow, text: str, most: int = 10_000) -> int:
    """Return how many times *text* is taken until the window closes."""
    for count in range(most):
        if not window.has_room:
            return count
        window.add([text])
    return most


def test_short_audio_is_bounded_by_count() -> None:
    """What weighs little fills every request in flight."""
    window = BulkWindow(VoiceSettings(format="opus"), texts=2560, least=64, audio_bytes=256 << 20)
    assert filled(window, LONG) == 2560


def test_wav_is_bounded_by_bytes() -> None:
    """Four seconds at 24 kHz are 192,000 bytes: 256 MiB of them are 1,399 texts."""
    window = BulkWindow(VoiceSettings(format="wav"), texts=2560, least=64, audio_bytes=256 << 20)
    assert filled(window, LONG) == 1399


def test_rate_speed_and_script_count() -> None:
    """Twice the rate is twice the audio, twice the speed half of it; letters are spoken faster than characters."""
    for settings, text, count in (
        (VoiceSettings(sample_rate=48000), LONG, 500),
        (VoiceSettings(), LONG, 1000),
        (VoiceSettings(speed=2.0), LONG, 2000),
        (VoiceSettings(format="pcm"), "a" * 20, 3077),
    ):
        assert filled(BulkWindow(settings, texts=9000, least=1, audio_bytes=192_000_000), text) == count


def test_a_batch_is_never_held_back() -> None:
    """However long its texts, one request is filled."""
    window = BulkWindow(VoiceSettings(), texts=2560, least=64, audio_bytes=1)
    assert filled(window, "字" * 4096) == 64
    assert filled(BulkWindow(VoiceSettings(), texts=5, least=64, audio_bytes=1), LONG) == 5


def test_what_is_read_makes_room() -> None:
    """As much as was taken is given back, and what is no text weighs nothing."""
    window = BulkWindow(VoiceSettings(), texts=2560, least=1, audio_bytes=384_000)
    window.add([LONG, LONG, None])
    states = [window.has_room]
    assert repr(window) == "<BulkWindow 3/2560 texts, 0.4 of 0.4 MB expected>"
    window.remove(LONG)
    assert [*states, window.has_room] == [False, True]
    window.remove(None)
    window.remove(LONG)
    assert repr(window) == "<BulkWindow 0/2560 texts, 0.0 of 0.4 MB expected>"


def looked_at(window: BulkWindow) -> None:
    """Look at a full *window* as often as it takes it to ask again what is useful."""
    window.add([LONG] * 64)
    for _ in range(16):
        _ = window.has_room
    for _ in range(64):
        window.remove(LONG)


def test_no_more_is_sent_on_its_way_than_the_service_can_do_with() -> None:
    """By texts or by seconds of audio, as it is at the moment; a request is filled all the same."""
    useful = [(300.0, 1e9)]
    window = BulkWindow(
        VoiceSettings(format="opus"), texts=2560, least=64, audio_bytes=1 << 40, capacity=lambda: useful[0]
    )
    assert filled(window, LONG) == 300
    useful[0] = (1e9, 2000.0)
    looked_at(window)
    assert filled(window, LONG) == 200
    useful[0] = (0.0, 0.0)
    looked_at(window)
    assert not window.has_room
    small = BulkWindow(VoiceSettings(), texts=2560, least=64, audio_bytes=1 << 40, capacity=lambda: (1.0, 1.0))
    assert filled(small, LONG) == 64

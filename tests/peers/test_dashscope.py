"""The official SDK of Model Studio passes against the emulator, so what is tested there is what the service speaks."""

from __future__ import annotations

import gc
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient.emulator.speech.echo import echo_text
from tests.emulator.conftest import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosyclient.emulator import Emulator

__all__ = ["start"]

# The SDK imports more than it needs, with warnings of its own.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def emulator(start: Callable[..., Emulator]) -> Emulator:
    """Return an emulator that knows one key."""
    return start(engine="echo", api_key="s3cret")


@pytest.fixture
def sdk(emulator: Emulator) -> Iterator[Any]:
    """Point the SDK, whose key and address are globals, at the emulator."""
    import dashscope
    from dashscope.audio import tts_v2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dashscope, "api_key", "s3cret")
        patch.setattr(dashscope, "base_websocket_api_url", _url(emulator))
        yield tts_v2
        # It leaves sockets to the collector, whose warnings are not for the tests that follow.
        gc.collect()


def _url(emulator: Emulator) -> str:
    return f"{emulator.url.replace('http', 'ws')}/api-ws/v1/inference"


def _synthesizer(sdk: Any, **options: Any) -> Any:
    wanted = {"model": "cosyvoice-v3-flash", "voice": "longanyang", "format": sdk.AudioFormat.WAV_22050HZ_MONO_16BIT}
    return sdk.SpeechSynthesizer(**{**wanted, **options})


class _Listener:
    """Remember what the SDK calls back."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.events: list[Any] = []
        self.audio = b""
        self.over = threading.Event()

    def on_open(self) -> None:
        self.calls.append("open")

    def on_complete(self) -> None:
        self.calls.append("complete")

    def on_error(self, message: Any) -> None:
        self.calls.append("error")

    def on_close(self) -> None:
        self.calls.append("close")
        self.over.set()

    def on_event(self, message: str) -> None:
        self.events.append(json.loads(message))

    def on_data(self, data: bytes) -> None:
        self.audio += data


def test_a_call_returns_the_audio(sdk: Any, emulator: Emulator) -> None:
    """The SDK's simplest way, with every parameter it sends by itself."""
    synthesizer = _synthesizer(sdk, speech_rate=1.2, seed=7, instruction="softly", language_hints=["zh"])
    assert echo_text(synthesizer.call("你好，世界。")) == "你好，世界。"
    received = emulator.received()[-1]
    assert {
        name: received[name] for name in ("model", "voice", "sample_rate", "format", "speed", "seed", "instruct")
    } == {
        "model": "cosyvoice-v3-flash",
        "voice": "longanyang",
        "sample_rate": 22050,
        "format": "wav",
        "speed": 1.2,
        "seed": 7,
        "instruct": "softly",
    }


def test_its_default_format_is_mp3(sdk: Any, start: Callable[..., Emulator]) -> None:
    """It sends "Default" and a rate of 0, which the service takes for its own default."""
    tone = start(engine="tone", api_key="s3cret")
    audio = _synthesizer(sdk, format=sdk.AudioFormat.DEFAULT, url=_url(tone)).call("hello there")
    assert audio[:3] == b"ID3" or audio[0] == 0xFF
    assert (tone.received()[-1]["format"], tone.received()[-1]["sample_rate"]) == ("mp3", 22050)


def test_text_is_taken_while_it_is_written(sdk: Any, emulator: Emulator) -> None:
    """Several pieces, one audio."""
    synthesizer = _synthesizer(sdk, format=sdk.AudioFormat.PCM_24000HZ_MONO_16BIT, callback=(listener := _Listener()))
    for piece in ("Hel", "lo. And", " more"):
        synthesizer.streaming_call(piece)
    synthesizer.streaming_complete(10_000)
    assert listener.over.wait(10)
    assert echo_text(listener.audio) == "Hello. And more"
    assert listener.calls == ["open", "complete", "close"]
    kinds = [event["payload"]["output"]["type"] for event in listener.events]
    assert kinds == ["sentence-begin", "sentence-synthesis", "sentence-end"] * 2
    assert emulator.received()[-1]["text"] == "Hello. And more"


def test_a_flush_and_a_cancel_are_understood(sdk: Any, emulator: Emulator) -> None:
    """What is buffered is spoken at once, or never."""
    synthesizer = _synthesizer(sdk, format=sdk.AudioFormat.PCM_24000HZ_MONO_16BIT, callback=(listener := _Listener()))
    synthesizer.streaming_call("no end")
    synthesizer.streaming_flush()
    synthesizer.streaming_call("never said")
    synthesizer.streaming_cancel(10_000)
    assert echo_text(listener.audio) == "no end"


def test_words_are_timed(sdk: Any, emulator: Emulator) -> None:
    """In the last event, and in those of the sentences."""
    synthesizer = _synthesizer(
        sdk, callback=(listener := _Listener()), additional_params={"word_timestamp_enabled": True}
    )
    synthesizer.streaming_call("你好 world。")
    synthesizer.streaming_complete(10_000)
    words = synthesizer.get_response()["payload"]["output"]["sentence"]["words"]
    assert [word["text"] for word in words] == ["你", "好", "world"]
    assert any(event["payload"]["output"]["sentence"]["words"] == words for event in listener.events)


def test_its_pool_uses_connections_again(sdk: Any, emulator: Emulator) -> None:
    """Two texts over one socket, opened before the first."""
    pool = sdk.SpeechSynthesizerObjectPool(max_size=1)
    try:
        for text in ("first", "second"):
            synthesizer = pool.borrow_synthesizer(
                model="cosyvoice-v3-flash", voice="longanyang", format=sdk.AudioFormat.PCM_24000HZ_MONO_16BIT
            )
            assert echo_text(synthesizer.call(text)) == text
            assert pool.return_synthesizer(synthesizer) is not False
        assert emulator.counters().connections_seen == 1
    finally:
        pool.shutdown()
        synthesizer.close()


def test_a_failed_task_is_an_error_there_too(sdk: Any, emulator: Emulator) -> None:
    """Newer releases raise what older ones swallowed."""
    for after in (0, 1):
        emulator.inject("task_failed", after=after)
        with pytest.raises(Exception, match="the engine failed"):
            _synthesizer(sdk).call("hello there")


def test_a_wrong_key_is_refused_in_the_handshake(sdk: Any, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no task to fail yet."""
    import dashscope

    connect = sdk.SpeechSynthesizer._SpeechSynthesizer__connect
    # It polls for five seconds whatever the service has said.
    monkeypatch.setattr(sdk.SpeechSynthesizer, "_SpeechSynthesizer__connect", lambda self, _=5: connect(self, 0.5))
    dashscope.api_key = "wrong"
    with pytest.raises(TimeoutError, match="could not established"):
        _synthesizer(sdk).call("hello")
    assert emulator.counters().replies[401] >= 1
    assert emulator.counters().requests == 0

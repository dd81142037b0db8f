"""The client with OpenAI-compatible servers: what only they have, through the whole pipeline and over real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cosyclient import BadRequest, BadUtterance, CosyClient, DecodeError, ServiceFault, TransportError
from cosyclient.emulator import echo_text
from tests.contracts.apis_openai import at, uploaded
from tests.protocols.wire_runtime import CLONE, CROSS, TRANSCRIPT

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.emulator import Emulator

    Start = Callable[..., Emulator]


def speaking(emulator: Emulator, dialect: str, **more: Any) -> CosyClient:
    """Return a client in this dialect that makes one attempt."""
    settings = {"protocol": f"openai:{dialect}", "voice": CLONE, "model": "cosyvoice3", "max_retries": 0, **more}
    url = emulator.url.replace("http", "ws") if settings["protocol"].endswith("-ws") else emulator.url
    return CosyClient(url, **settings)


def test_words_come_with_their_times(start: Start) -> None:
    """In seconds, within the audio; each such text is sent by itself, as the batch route would drop them."""
    emulator = at(start, "vllm-omni")
    with speaking(emulator, "vllm-omni") as client:
        speech = client.synthesize("hello 你好", words=True)
        assert [word.text for word in speech.words] == ["hello", "你", "好"]
        assert speech.words[0].start == 0.0
        assert 0 < speech.words[-1].end <= speech.duration + 0.001
        assert all(word.start < word.end for word in speech.words)
        assert client.synthesize("hello 你好").words == ()
        before = emulator.counters().requests
        client.batch_synth(["a", "b", "c"], words=True)
        client.batch_synth(["a", "b", "c"], seed=0)
        assert emulator.counters().requests == before + 6
        assert [entry["seed"] for entry in emulator.received()[-3:]] == [0, 0, 0]


def test_words_that_a_service_leaves_out_are_warned_about_once(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """It speaks all the same, and says nothing of them; nothing is said where they were too many."""
    with speaking(at(start, "vllm-omni", dialect_old=True), "vllm-omni") as client:
        for _ in range(2):
            speech = client.synthesize("hello", words=True)
            assert (speech.words, echo_text(speech.audio)) == ((), "hello")
    assert [record.levelname for record in caplog.records if "names no words" in record.message] == ["WARNING"]
    caplog.clear()
    with speaking(at(start, "vllm-omni"), "vllm-omni") as client:
        assert client.synthesize("字" * 200, words=True).words == ()
    assert not caplog.records


def test_words_come_over_websocket_as_well(start: Start) -> None:
    """With samples or a file made of them; a service without an aligner says what it needs, once."""
    emulator = at(start, "vllm-omni")
    with speaking(emulator, "", protocol="vllm-omni-ws") as client:
        for format in ("wav", "pcm"):
            speech = client.synthesize("hello 你好", words=True, format=format)
            assert (speech.format, speech.sample_rate, echo_text(speech.audio)) == (format, 24000, "hello 你好")
            assert [word.text for word in speech.words] == ["hello", "你", "好"]
            assert 0 < speech.words[-1].end <= speech.duration + 0.001
        assert client.synthesize("hello").words == ()
    deaf = at(start, "vllm-omni", aligner=False)
    with speaking(deaf, "", protocol="vllm-omni-ws", max_retries=3) as client:
        with pytest.raises(BadRequest, match="--forced-aligner"):
            client.synthesize("hello", words=True)
        assert deaf.counters().requests == 1


def test_the_error_of_an_old_vllm_names_the_protocol_to_use(start: Start) -> None:
    """Over its WebSocket it speaks by the sentence only."""
    with speaking(at(start, "vllm-omni", dialect_old=True), "", protocol="vllm-omni-ws") as client:
        with pytest.raises(BadRequest, match="use protocol='openai:vllm-omni'"):
            client.synthesize("hello")
        # What is still being written is cut into sentences anyway.
        with client.stream_text(["One. ", "Two."]) as stream:
            assert echo_text(stream.speech().audio) == "One.Two."


@pytest.mark.parametrize("dialect", ["vllm-omni", "sglang-omni"])
def test_many_texts_share_requests(start: Start, dialect: str) -> None:
    """Up to 32 of them."""
    emulator = at(start, dialect)
    texts = [f"text {number}" for number in range(64)]
    voice = uploaded(emulator) if dialect == "vllm-omni" else {"voice": CLONE}
    with speaking(emulator, dialect, **voice, concurrency=2) as client:
        assert [echo_text(audio) for audio in client.batch_synth(texts)] == texts
    sizes = emulator.counters().batch_sizes
    assert sum(size * count for size, count in sizes.items()) == 64
    assert 1 < max(sizes) <= 32
    assert emulator.counters().requests < 40


def test_a_failed_item_is_sent_again_alone(start: Start) -> None:
    """The others are not."""
    emulator = at(start, "vllm-omni")
    texts = ["a", "b", "c"]
    with speaking(emulator, "vllm-omni", **uploaded(emulator), concurrency=1, max_retries=2) as client:
        emulator.inject("failed_items", indices=[0])
        futures = [client.submit(text) for text in texts]
        assert [echo_text(future.result().audio) for future in futures] == texts


def test_an_instruction_is_sent_in_the_form_of_each_server(start: Start) -> None:
    """A field, a mark in the text, or JSON within JSON; with a recording it goes before the transcript."""
    for dialect, voice, mode in (
        ("sglang-omni", CLONE, "instruct2"),
        ("xinference", CLONE, "instruct2"),
        ("xinference", "中文女", "instruct"),
        ("async-cosyvoice", "中文女", "instruct"),
        ("siliconflow", "alex", "instruct"),
    ):
        emulator = at(start, dialect)
        model = None if dialect == "siliconflow" else "cosyvoice3"
        with speaking(emulator, dialect, voice=voice, model=model) as client:
            assert echo_text(client.synthesize("hi", instruct="softly").audio) == "hi"
        received = emulator.received()[-1]
        assert (received["text"], received["instruct"], received["mode"]) == ("hi", "softly", mode)


def test_voices_are_listed(start: Start) -> None:
    """Where the server has a list."""
    emulator = at(start, "vllm-omni")
    uploaded(emulator)
    with speaking(emulator, "vllm-omni") as client:
        assert client.voices() == ["Mine"]
    with speaking(at(start, "xinference"), "xinference") as client, pytest.raises(BadUtterance):
        client.voices()


def test_a_server_without_an_aligner_refuses_words(start: Start) -> None:
    """And is not asked again: it would not find one."""
    emulator = at(start, "vllm-omni", aligner=False)
    with speaking(emulator, "vllm-omni", max_retries=3) as client, pytest.raises(Exception, match="forced-aligner"):
        client.synthesize("hi", words=True)
    assert emulator.counters().requests == 1


@pytest.mark.parametrize(
    ("dialect", "switches", "voice"),
    [
        ("vllm-omni", {"dialect_old": True}, CLONE),
        ("sglang-omni", {"dialect_old": True}, CROSS),
        ("sglang-omni", {}, CROSS),
        ("xinference", {}, CROSS),
    ],
)
def test_a_stream_is_cut_anywhere_and_a_break_is_an_error(
    start: Start, dialect: str, switches: dict[str, Any], voice: Any
) -> None:
    """Inside a sample without harm; by a fault of the engine with what had come."""
    emulator = at(start, dialect, **switches)
    with speaking(emulator, dialect, voice=voice) as client:
        emulator.inject("odd_pieces", bytes=1001)
        with client.stream(TRANSCRIPT) as stream:
            assert echo_text(stream.speech().audio) == TRANSCRIPT
        if dialect == "xinference":
            return  # one segment, one piece
        emulator.inject("error_event", after=1)
        with client.stream(TRANSCRIPT) as stream, pytest.raises((ServiceFault, TransportError)) as caught:
            list(stream)
        assert caught.value.partial is not None
        assert 0 < caught.value.partial.duration < 0.2


def test_sentences_left_out_are_noticed(start: Start) -> None:
    """The bridge skips what fails, and says nothing."""
    emulator = start(engine="tone", dialect="triton-bridge")
    with speaking(emulator, "triton-bridge", voice="中文女", model="cosyvoice2") as client:
        for speak in (client.synthesize, lambda text: list(client.stream(text))):
            emulator.inject("short_audio")
            with pytest.raises(DecodeError, match="were expected"):
                speak("一句很长的话，被桥悄悄地丢掉了。" * 3)


def test_a_rate_that_is_ignored_is_an_event(start: Start) -> None:
    """The speech says what came, not what was wished for."""
    emulator = start(dialect="xinference", dialect_rate=22050)
    with speaking(emulator, "xinference", voice="中文女", model="cosyvoice2") as client:
        assert client.synthesize("hi").sample_rate == 22050
        mp3 = client.synthesize("hi", format="mp3")
        assert (mp3.format, mp3.sample_rate) == ("mp3", 22050)

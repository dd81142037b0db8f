"""Text that is sent while it is written: order, backpressure, retries, failures of both sides, and cleanup."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient import (
    BadUtterance,
    ClientClosed,
    ConfigurationError,
    CosyClient,
    DeadlineExceeded,
    Rejected,
    ServiceError,
    ServiceFault,
    TransportError,
    Unauthorized,
)
from cosyclient.clock import SystemClock
from cosyclient.emulator.speech.echo import echo_text
from cosyclient.models import VoiceSettings
from cosyclient.pipeline.calls.duplex import TextFeeder
from cosyclient.protocols.alibaba import model_studio_ws as model_studio
from cosyclient.testing import RecordingListener
from tests.contracts.apis_websocket import ROWS
from tests.emulator.conftest import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosyclient.emulator import Emulator
    from tests.contracts.api_case import ApiCase

__all__ = ["start"]

rows = pytest.mark.parametrize("row", ROWS, ids=str)
MODEL_STUDIO = ROWS[0]
_TIMEOUT = 20.0


@pytest.fixture
def emulator(start: Callable[..., Emulator]) -> Emulator:
    """Return an emulator whose audio carries its text."""
    return start(engine="echo")


def until(seen: Callable[[], bool]) -> None:
    """Wait until *seen*."""
    end = time.monotonic() + _TIMEOUT
    while not seen():
        assert time.monotonic() < end, "not seen in time"
        time.sleep(0.01)


def writers() -> int:
    """Return how many writer threads run."""
    return sum(thread.name == "cosyclient-writer" for thread in threading.enumerate())


def plain(row: ApiCase, emulator: Emulator, **more: Any) -> CosyClient:
    """Return a client of *row* at speed 1.0, at which all rows stream."""
    return row.client(emulator, **{"speed": 1.0, **more})


@rows
def test_all_pieces_of_text_are_spoken_in_order(row: ApiCase, emulator: Emulator) -> None:
    """Afterwards no thread of the stream is left, and the next call works."""
    tokens = ["", " ", "He", "l", "lo", ". ", "How", " are", "\n", "you", "?", " 你", "好", "。", " ", "Bye"]
    with plain(row, emulator) as client:
        with client.stream_text(iter(tokens)) as stream:
            assert stream.sample_rate == row.sample_rate
            pieces = list(stream)
        spoken = echo_text(b"".join(pieces))
        # Blanks between sentences are not spoken.
        assert spoken.replace(" ", "").replace("\n", "") == "".join(tokens).replace(" ", "").replace("\n", "")
        assert stream.speech().pcm() == b"".join(pieces)
        assert "DuplexStream" in repr(stream)
        until(lambda: writers() == 0)
        assert emulator.received()[-1]["text"] == "".join(tokens)
        assert client.stats().in_flight == 0
        # The next call works.
        assert echo_text(client.synthesize("after").audio) == "after"


def test_audio_comes_before_the_text_is_finished(emulator: Emulator) -> None:
    """This is the purpose of a duplex stream."""
    go_on = threading.Event()

    def written() -> Iterator[str]:
        yield "First."
        assert go_on.wait(_TIMEOUT)
        yield "Second."

    with plain(MODEL_STUDIO, emulator) as client, client.stream_text(written()) as stream:
        pieces = iter(stream)
        assert echo_text(next(pieces)) == "First."
        go_on.set()
        assert echo_text(b"".join(pieces)) == "Second."


def test_nothing_is_sent_before_the_first_text(emulator: Emulator) -> None:
    """A slow model must not use up the time that a service waits for text."""
    seen: list[int] = []

    def written() -> Iterator[str]:
        yield " "
        seen.append(emulator.counters().connections_seen)
        yield "Now."

    with plain(MODEL_STUDIO, emulator) as client:
        assert client.stream_text(written()).speech().duration > 0
    assert seen == [0]


@pytest.mark.parametrize("texts", [[], ["", " ", "\n"]])
def test_a_stream_without_text_is_an_error(emulator: Emulator, texts: list[str]) -> None:
    """It is raised before anything is sent."""
    with plain(MODEL_STUDIO, emulator) as client, pytest.raises(BadUtterance, match="nothing to say"):
        client.stream_text(texts)
    assert emulator.counters().connections_seen == 0


def test_a_piece_that_is_no_text_is_an_error(emulator: Emulator) -> None:
    """As the first piece it is raised at once; later, the text before it is spoken first."""
    with plain(MODEL_STUDIO, emulator) as client:
        for texts in ([b"bytes"], [3], ["a\x00b"], ["\ud800"]):
            with pytest.raises(BadUtterance):
                client.stream_text(texts)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="pieces"):
            client.stream_text("one text")
        with pytest.raises(BadUtterance, match="format"):
            client.stream_text(["a"], format="mp3")  # type: ignore[call-arg]
        with pytest.raises(BadUtterance, match="^voice"):
            client.stream_text(["a"], voice=None)
        assert emulator.counters().connections_seen == 0
        with (
            client.stream_text(["Fine.", "bad\x00"]) as stream,
            pytest.raises(BadUtterance, match="U\\+0000") as caught,
        ):
            list(stream)
        assert caught.value.partial is not None
        assert echo_text(caught.value.partial.audio) == "Fine."


def test_a_protocol_that_takes_whole_texts_raises(emulator: Emulator) -> None:
    """The error names the call to use instead."""
    with CosyClient(emulator.url) as client, pytest.raises(BadUtterance, match="use stream"):
        client.stream_text(["a"])


class Broken(Exception):
    """Stand for an error of a language model's client."""


@rows
def test_the_text_before_a_writers_error_is_spoken(row: ApiCase, emulator: Emulator) -> None:
    """Then an error is raised with the writer's as its cause and all the audio; iterating again raises the same."""

    def written() -> Iterator[str]:
        yield "Said, and"
        yield " more"
        raise Broken("no more tokens")

    with plain(row, emulator) as client:
        stream = client.stream_text(written())
        for _ in range(2):
            with pytest.raises(Rejected, match="Broken") as caught:
                list(stream)
            assert isinstance(caught.value.__cause__, Broken)
            assert caught.value.partial is not None
            assert echo_text(caught.value.partial.audio) == "Said, and more"
            assert "no more tokens" not in str(caught.value)
        with pytest.raises(Rejected):
            stream.speech()
        assert set(client.stats().breakers.values()) == {"closed"}
        assert client.stats().in_flight == 0


def test_a_writer_that_fails_before_the_first_text_fails_the_call(emulator: Emulator) -> None:
    """Its own error is raised, as nothing was sent."""

    def written(word: str) -> str:
        raise Broken

    with plain(MODEL_STUDIO, emulator) as client, pytest.raises(Broken):
        client.stream_text(map(written, ["one"]))
    assert emulator.counters().connections_seen == 0


@rows
def test_an_attempt_that_fails_before_the_first_audio_is_retried_with_all_the_text(
    row: ApiCase, emulator: Emulator
) -> None:
    """Text that was sent meanwhile is sent again, in order, and nothing twice."""
    listener = RecordingListener()
    tokens = [f"{number}." for number in range(20)]

    def written() -> Iterator[str]:
        yield from tokens[:10]
        until(lambda: sum(emulator.counters().faults.values()) == 2)
        yield from tokens[10:]

    with plain(row, emulator, max_retries=3, listeners=[listener]) as client:
        emulator.inject("reset")
        emulator.inject("task_failed")
        speech = client.stream_text(written()).speech()
        assert (echo_text(speech.audio), speech.attempts) == ("".join(tokens), 3)
        assert emulator.received()[-1]["text"] == "".join(tokens)


def test_a_failure_after_the_first_audio_ends_the_stream_and_the_writer(emulator: Emulator) -> None:
    """The error has the audio that had come, and no more text is taken from the writer."""
    asked: list[int] = []

    def written() -> Iterator[str]:
        for number in range(1_000_000):
            asked.append(number)
            yield f"Sentence {number}. "
            time.sleep(0.001)

    emulator.inject("task_failed", after=3)
    with plain(MODEL_STUDIO, emulator, max_retries=3) as client:
        stream = client.stream_text(written())
        with pytest.raises(ServiceFault) as caught:
            list(stream)
        assert caught.value.partial is not None
        assert echo_text(caught.value.partial.audio).startswith("Sentence 0.")
        until(lambda: writers() == 0)
        assert len(asked) < 1_000_000
        with pytest.raises(ServiceFault):
            stream.speech()


def test_a_writer_that_pauses_too_long_gets_the_services_error(start: Callable[..., Emulator]) -> None:
    """The service's timeout ends before ours, and its message says what to do."""
    emulator = start(engine="echo", task_idle=0.3)
    silent = threading.Event()

    def written() -> Iterator[str]:
        yield "Hello."
        silent.wait(_TIMEOUT)
        yield "never"

    with plain(MODEL_STUDIO, emulator) as client:
        with pytest.raises(ServiceError, match="feed it, or finish") as caught:
            client.stream_text(written()).speech()
        assert caught.value.code == "CLIENT_ERROR"
        assert not caught.value.endpoint_fault
        assert caught.value.partial is not None
        silent.set()
        until(lambda: writers() == 0)


def test_closing_early_stops_both_sides(start: Callable[..., Emulator]) -> None:
    """The writer, whose generator is closed, and the service."""
    emulator = start(engine="tone", chunk_seconds=0.2, chunk_gap=60.0)
    closed = threading.Event()

    def written() -> Iterator[str]:
        try:
            while True:
                yield "A sentence that is spoken. "
                time.sleep(0.01)
        finally:
            closed.set()

    with plain(MODEL_STUDIO, emulator) as client:
        with client.stream_text(written()) as stream:
            next(iter(stream))
            assert emulator.counters().in_flight == 1
        assert closed.wait(_TIMEOUT)
        until(lambda: emulator.counters().in_flight == 0)
        assert client.stats().in_flight == 0
        until(lambda: writers() == 0)
        with pytest.raises(Rejected):
            stream.speech()


def test_closing_the_client_ends_its_duplex_streams(start: Callable[..., Emulator]) -> None:
    """The reader gets an error, and the writer ends."""
    emulator = start(engine="tone", chunk_seconds=0.2, chunk_gap=60.0)

    def written() -> Iterator[str]:
        while True:
            yield "A sentence that is spoken. "
            time.sleep(0.01)

    client = plain(MODEL_STUDIO, emulator)
    stream = client.stream_text(written())
    client.close(drain=False)
    with pytest.raises((Rejected, TransportError)):
        list(stream)
    until(lambda: writers() == 0)
    with pytest.raises(ClientClosed):
        client.stream_text(["a"])


def test_the_deadline_covers_the_whole_stream(emulator: Emulator) -> None:
    """The time that the writer takes counts as well."""
    over = threading.Event()

    def written() -> Iterator[str]:
        yield "Hello."
        over.wait(_TIMEOUT)

    with plain(MODEL_STUDIO, emulator) as client:
        stream = client.stream_text(written(), timeout=0.4)
        with pytest.raises(DeadlineExceeded) as caught:
            list(stream)
        assert caught.value.partial is not None
        over.set()


def test_a_refusal_is_raised_and_ends_the_writer(start: Callable[..., Emulator]) -> None:
    """For example the refusal of a wrong key."""
    emulator = start(engine="echo", api_key="s3cret")
    with plain(MODEL_STUDIO, emulator, api_key="wrong") as client, pytest.raises(Unauthorized):
        client.stream_text(["Hello."])
    assert writers() == 0


def test_text_beyond_the_services_limit_is_an_error(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task takes so many characters; the text before them is spoken."""
    monkeypatch.setattr(model_studio, "MAX_TASK_CHARACTERS", 10)
    with plain(MODEL_STUDIO, emulator) as client:
        with client.stream_text(["Go.", "On.", "字字字"]) as stream, pytest.raises(BadUtterance, match="10") as caught:
            list(stream)
        assert caught.value.partial is not None
        assert echo_text(caught.value.partial.audio) == "Go.On."


class Slow:
    """Stand for a session whose socket accepts nothing until `may_flush` is set."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.finished = False
        self.may_flush = threading.Event()

    def send_text(self, text: str) -> None:
        self.sent.append(text)

    def end_text(self) -> None:
        self.finished = True

    def flush(self) -> None:
        assert self.may_flush.wait(_TIMEOUT)


def test_a_piece_is_taken_after_the_one_before_is_flushed() -> None:
    """A service that accepts no text stops the writer as well."""
    taken: list[int] = []

    def written() -> Iterator[str]:
        for number in range(10):
            taken.append(number)
            yield f"{number} "

    feeder, reply = TextFeeder(written(), SystemClock()), Slow()
    assert feeder.begin(VoiceSettings()).text == "0"
    feeder.attach(reply)  # type: ignore[arg-type]
    until(lambda: len(reply.sent) == 2)
    assert taken == [0, 1]
    assert feeder.waited >= 0
    reply.may_flush.set()
    until(lambda: reply.finished)
    assert "".join(reply.sent) == "".join(f"{number} " for number in range(10))
    assert repr(feeder) == "<TextFeeder ended>"


def test_sent_text_is_kept_until_the_first_audio_only() -> None:
    """After that there is no other attempt."""
    go_on = threading.Event()

    def written() -> Iterator[str]:
        yield "a"
        yield "b"
        assert go_on.wait(_TIMEOUT)
        yield "c"

    feeder, first, second = TextFeeder(written(), SystemClock()), Slow(), Slow()
    first.may_flush.set()
    second.may_flush.set()
    feeder.begin(VoiceSettings())
    feeder.attach(first)  # type: ignore[arg-type]
    until(lambda: first.sent == ["a", "b"])
    feeder.detach()
    feeder.attach(second)  # type: ignore[arg-type]
    assert second.sent == ["a", "b"]
    feeder.keep_nothing()
    go_on.set()
    until(lambda: second.finished)
    assert (first.sent, second.sent) == (["a", "b"], ["a", "b", "c"])
    feeder.close()
    feeder.reset_after_fork()
    assert repr(feeder) == "<TextFeeder closed>"

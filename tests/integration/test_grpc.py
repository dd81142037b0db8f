"""The client over gRPC under limits, stalls, forks, and with equal texts of different voices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cosyclient import AttemptTimeout, BadRequest, ConfigurationError, CosyClient
from cosyclient.config import ClientConfig, RetryConfig, TimeoutConfig
from cosyclient.emulator.speech.echo import echo_text
from cosyclient.voices import Voice
from tests.emulator.conftest import start
from tests.protocols.wire_runtime import TRANSCRIPT, recording
from tests.support.waiting import finish
from tests.support.waiting import start as begin

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.emulator import Emulator

__all__ = ["start"]

PROGRAM = Path(__file__).parent / "programs" / "grpc_forks.py"


def test_a_service_of_four_calls_serves_any_number_of_texts(start: Callable[..., Emulator]) -> None:
    """Refusals beyond its limit are retried, and the client learns to ask for less at once."""
    emulator = start(engine="echo", grpc=True, max_conc=4, first_chunk=0.02)
    texts = [f"text {number}" for number in range(60)]
    config = ClientConfig(retry=RetryConfig(initial=0.02))
    with CosyClient(emulator.grpc_url, voice="中文女", max_retries=20, concurrency=16, config=config) as client:
        assert [echo_text(audio) for audio in client.batch_synth(texts)] == texts
        stats = client.stats()
        assert stats.pool.opened == 1
        assert emulator.counters().replies.get(429, 0) == stats.throttled
        assert set(stats.breakers.values()) == {"closed"}


def test_a_stream_that_stalls_is_left_long_before_the_deadline(start: Callable[..., Emulator]) -> None:
    """By the gap between two messages."""
    emulator = start(engine="echo", grpc=True)
    config = ClientConfig(timeouts=TimeoutConfig(first_byte=0.2, allowance=0.0))
    with CosyClient(emulator.grpc_url, voice="中文女", max_retries=0, config=config) as client:
        for fault in ("hang", "hang_body"):
            emulator.inject(fault)
            with pytest.raises(AttemptTimeout):
                client.synthesize("hello", timeout=60.0)
        assert echo_text(client.synthesize("hello").audio) == "hello"


def test_a_failing_model_is_not_asked_again(start: Callable[..., Emulator]) -> None:
    """Unless it is the machine that failed."""
    emulator = start(engine="echo", grpc=True)
    with CosyClient(emulator.grpc_url, max_retries=3) as client:
        with pytest.raises(BadRequest, match="Exception iterating responses"):
            client.synthesize("hello", voice="nobody")
        assert emulator.counters().requests == 1
        emulator.inject("model_error", after=1)
        assert client.synthesize("hello", voice="中文女").attempts == 2


def test_equal_texts_of_different_voices_stay_apart(start: Callable[..., Emulator]) -> None:
    """At a model that knows recordings by their transcripts."""
    emulator = start(engine="echo", grpc=True)
    voices = [Voice.clone(recording(seconds), TRANSCRIPT) for seconds in (1.0, 1.5)]
    for protocol, url in (("triton:cosyvoice3", emulator.url), ("triton-grpc:cosyvoice3", emulator.grpc_url)):
        with CosyClient(url, protocol=protocol) as client:
            for voice in voices:
                client.synthesize("hello", voice=voice)
        assert [entry["prompt_bytes"] for entry in emulator.received()[-2:]] == [32000, 48000]


def test_a_missing_package_is_named_when_the_client_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the first call."""
    monkeypatch.setitem(sys.modules, "cosyclient.transports.grpc.transport", None)
    monkeypatch.setattr("cosyclient.transports.registry.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install '\.\[grpc\]'"):
        CosyClient("grpc://127.0.0.1:1", voice="x")


def test_both_sides_of_a_fork_can_call(start: Callable[..., Emulator]) -> None:
    """In a program of its own, for a fork takes all threads' locks with it."""
    emulator = start(engine="echo", grpc=True, decoupled=True, chunk_seconds=0.1, chunk_gap=0.1)
    ran = subprocess.run(
        [sys.executable, str(PROGRAM), emulator.grpc_url], capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_children_forked_during_calls_can_call(start: Callable[..., Emulator]) -> None:
    """The fork waits for the calls under way: otherwise grpcio's core aborts in one child of eight."""
    emulator = start(engine="tone", grpc=True, rtt=0.01)
    finished = finish(begin("grpc_amid", emulator.grpc_url, "40"))
    assert finished[:2] == (0, "{0: 40}\n"), finished

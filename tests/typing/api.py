"""Uses of the public API that type checkers accept, and mistakes that they refuse; checked, never run.

``test_typing.py`` runs ``mypy --strict`` and pyright over this file. Both report an ignored error that is none, so each
mistake is marked with the error that each checker has to find there.
"""

from __future__ import annotations

import ssl
from collections.abc import Generator
from concurrent.futures import Future
from typing import assert_type

from cosyclient import (
    ClientConfig,
    CosyClient,
    Outcome,
    RetryConfig,
    Speech,
    SpeechOptions,
    SpeechStream,
    StreamOptions,
    TimeoutConfig,
    Voice,
    join,
)
from cosyclient.errors import CosyError, Throttled
from cosyclient.events import AttemptFinished, Event

# Uses that both accept.


def listen(event: Event) -> None:
    if isinstance(event, AttemptFinished):
        assert_type(event.latency, float)
        assert_type(event.error, CosyError | None)


client = CosyClient(
    "https://tts.example.com",
    api_key="secret",
    protocol="openai",
    model="cosyvoice3",
    voice=Voice("longanyang"),
    format="opus",
    sample_rate=24000,
    speed=1.1,
    on_silent="silence",
    headers={"X-Tenant": "a"},
    extra={"task_type": "Base"},
    requests_per_second=None,
    verify=ssl.create_default_context(),
    config=ClientConfig(retry=RetryConfig(budget=100), timeouts=TimeoutConfig(base=10)),
    listeners=[listen],
)
options: SpeechOptions = {"voice": "longanyang", "format": "mp3", "seed": 7, "timeout": 10, "priority": "interactive"}
samples: StreamOptions = {"speed": 1.2, "words": True}

with client as entered:
    assert_type(entered, CosyClient)
    assert_type(client.synthesize("hello"), Speech)
    assert_type(client.synthesize("hello", **options), Speech)
    assert_type(client.synthesize("hello", voice=None, model=None, instruct=None, seed=None, timeout=None), Speech)
    assert_type(client.submit("hello", print, speed=0.9, words=True, sample_rate=16000), Future[Speech])
    assert_type(client.stream("hello", **samples), SpeechStream)
    assert_type(client.stream_text(iter(["hello, ", "world"]), **samples), SpeechStream)
    assert_type(client.synthesize_many(["a", "b"], ordered=False, **options), Generator[Outcome, None, None])
    assert_type(client.batch_synth(["a", "b"], on_silent="silence", headers={"X-Trace": "1"}), list[bytes])
    assert_type(client.with_options(priority="bulk", extra={"seed": 1}), CosyClient)
    assert_type(client.voices(), list[str])
    assert_type(client.upload_voice(Voice.clone("prompt.wav", "hello"), "me", consent="yes"), Voice)
    assert_type(join([outcome.unwrap() for outcome in client.synthesize_many(["a"])], gap=0.3), Speech)
    try:
        client.synthesize("hello")
    except Throttled as error:
        assert_type(error.retry_after, float | None)

# Misspelt names, which both refuse.

CosyClient("https://tts.example.com", timeot=10)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
client.synthesize("hello", voise="longanyang")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
client.submit("hello", samplerate=16000)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
client.stream("hello", format="wav")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
client.stream("hello", sped=1.2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
client.stream_text(["hello"], instruction="sing")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
client.synthesize_many(["a"], order=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
client.batch_synth(["a"], header={})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
client.with_options(time_out=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
client.upload_voice(Voice("a"), "me", concent="yes")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
ClientConfig(retries=RetryConfig())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
RetryConfig(bugdet=100)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
typo: SpeechOptions = {"formt": "wav"}  # type: ignore[typeddict-unknown-key]  # pyright: ignore[reportAssignmentType]

# Wrong values, which both refuse.

client.synthesize("hello", format="ogg")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
client.synthesize("hello", speed="fast")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
client.synthesize("hello", priority="batch")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
client.with_options(on_silent="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
client.synthesize(b"hello")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

"""The rate of a service that names none, doubted where every length speaks against it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyclient import CosyClient
from cosyclient.audio.rate_check import SampleRateCheck
from cosyclient.cli import main
from cosyclient.emulator import running
from cosyclient.events import Events, SampleRateDoubted
from cosyclient.protocols.base import MODEL_HOPS
from cosyclient.testing import RecordingListener

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.emulator import Emulator

TEXTS = ("你好，世界。", "今天天气很好。", "hello there", "一二三四五六七八九十", "再见")


def watched(lengths: list[int], rate: int) -> list[SampleRateDoubted]:
    """Return what is told of these lengths."""
    listener = RecordingListener()
    watch = SampleRateCheck(MODEL_HOPS, Events([listener]), "e")
    for length in lengths:
        watch.record(length, rate)
    return listener.of(SampleRateDoubted)


@given(st.lists(st.integers(50, 4000), min_size=1, max_size=40), st.sampled_from([(22050, 256), (24000, 480)]))
def test_a_model_at_its_own_rate_is_never_doubted(hops: list[int], model: tuple[int, int]) -> None:
    """Whatever it says."""
    rate, hop = model
    assert watched([hop * count for count in hops], rate) == []


@given(st.lists(st.integers(50, 4000), min_size=4, max_size=40, unique=True))
def test_a_model_of_another_rate_is_told_once(hops: list[int]) -> None:
    """As soon as four speeches agree, two of them against the rate they were taken for."""
    for taken, likely, hop, other in ((24000, 22050, 256, 480), (22050, 24000, 480, 256)):
        lengths = [hop * count for count in hops]
        told = watched(lengths * 2, taken)
        if sum(length % other != 0 for length in lengths * 2) < 2:
            assert told == []
            continue
        (event,) = told
        assert (event.endpoint, event.taken, event.likely) == ("e", taken, likely)
        assert 4 <= event.speeches <= 2 * len(lengths)


@given(st.lists(st.integers(1, 10**7), min_size=4, max_size=40))
def test_lengths_of_no_model_of_ours_tell_nothing(lengths: list[int]) -> None:
    """One that is not in whole hops of the other rate is enough."""
    assert watched([257 * 481 * 2 + 1, *lengths], 24000) == []
    assert watched(lengths, 16000) == []


@pytest.mark.parametrize("protocol", ["runtime", "grpc"])
def test_the_first_generation_taken_for_the_second_is_told(start: Callable[..., Emulator], protocol: str) -> None:
    """By an event, once, from whole speeches and from streams; at its own rate there is nothing to tell."""
    emulator = start(engine="tone", grpc=True, runtime_model="cosyvoice-300m")
    url = emulator.grpc_url if protocol == "grpc" else emulator.url
    for rate in (24000, 22050):
        for streamed in (False, True):
            listener = RecordingListener()
            with CosyClient(url, protocol=protocol, voice="中文女", sample_rate=rate, listeners=[listener]) as client:
                for text in TEXTS * 2:
                    if streamed:
                        list(client.stream(text))
                    else:
                        client.synthesize(text)
            told = [(event.taken, event.likely) for event in listener.of(SampleRateDoubted)]
            assert told == ([(24000, 22050)] if rate == 24000 else [])


def test_doctor_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    """From a single length."""
    with running(engine="tone", runtime_model="cosyvoice-300m") as emulator:
        asked = ["doctor", "--url", emulator.url, "--protocol", "runtime", "--voice", "中文女", "--json"]
        assert main(asked) == 0
        assert "22050 Hz, not 24000" in json.loads(capsys.readouterr().out)["audio"]["doubt"]
        assert main([*asked, "--sample-rate", "22050"]) == 0
        assert "doubt" not in json.loads(capsys.readouterr().out)["audio"]

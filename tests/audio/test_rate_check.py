"""`SampleRateCheck`: an unannounced rate is doubted where every length contradicts it."""

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
from cosyclient.protocols.capabilities import MODEL_HOPS
from cosyclient.testing import RecordingListener

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.emulator import Emulator

TEXTS = ("你好，世界。", "今天天气很好。", "hello there", "一二三四五六七八九十", "再见")


def doubts(lengths: list[int], rate: int) -> list[SampleRateDoubted]:
    """Return the events that speeches of these *lengths*, assumed to be at *rate*, cause."""
    listener = RecordingListener()
    check = SampleRateCheck(MODEL_HOPS, Events([listener]), "e")
    for length in lengths:
        check.record(length, rate)
    return listener.of(SampleRateDoubted)


@given(st.lists(st.integers(50, 4000), min_size=1, max_size=40), st.sampled_from([(22050, 256), (24000, 480)]))
def test_a_model_at_its_own_rate_is_never_doubted(hops: list[int], model: tuple[int, int]) -> None:
    """Whatever the lengths are."""
    rate, hop = model
    assert doubts([hop * count for count in hops], rate) == []


@given(st.lists(st.integers(50, 4000), min_size=4, max_size=40, unique=True))
def test_a_model_of_another_rate_is_reported_once(hops: list[int]) -> None:
    """As soon as four speeches agree, two of which contradict the assumed rate."""
    for assumed, likely, hop, other in ((24000, 22050, 256, 480), (22050, 24000, 480, 256)):
        lengths = [hop * count for count in hops]
        events = doubts(lengths * 2, assumed)
        if sum(length % other != 0 for length in lengths * 2) < 2:
            assert events == []
            continue
        (event,) = events
        assert (event.endpoint, event.taken, event.likely) == ("e", assumed, likely)
        assert 4 <= event.speeches <= 2 * len(lengths)


@given(st.lists(st.integers(1, 10**7), min_size=4, max_size=40))
def test_lengths_of_no_known_model_are_not_doubted(lengths: list[int]) -> None:
    """One length that is not whole hops of the other rate is enough."""
    assert doubts([257 * 481 * 2 + 1, *lengths], 24000) == []
    assert doubts(lengths, 16000) == []


@pytest.mark.parametrize("protocol", ["runtime", "grpc"])
def test_the_first_generation_assumed_to_be_the_second_is_reported(
    start: Callable[..., Emulator], protocol: str
) -> None:
    """By one event, from whole speeches and from streams; at its own rate there is no event."""
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
            found = [(event.taken, event.likely) for event in listener.of(SampleRateDoubted)]
            assert found == ([(24000, 22050)] if rate == 24000 else [])


def test_doctor_reports_a_doubtful_rate(capsys: pytest.CaptureFixture[str]) -> None:
    """From a single speech."""
    with running(engine="tone", runtime_model="cosyvoice-300m") as emulator:
        asked = ["doctor", "--url", emulator.url, "--protocol", "runtime", "--voice", "中文女", "--json"]
        assert main(asked) == 0
        assert "22050 Hz, not 24000" in json.loads(capsys.readouterr().out)["audio"]["doubt"]
        assert main([*asked, "--sample-rate", "22050"]) == 0
        assert "doubt" not in json.loads(capsys.readouterr().out)["audio"]

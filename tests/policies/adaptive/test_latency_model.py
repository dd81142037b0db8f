"""The latency model: queueing told from mere slowness, and with what certainty."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeAlias

import pytest

from cosyclient.policies.adaptive.latency_model import LatencyModel

Latency: TypeAlias = Callable[[float, float, random.Random], float]
"""Seconds an attempt takes, by its audio, the other audio in flight, and chance."""


def fitted(latency: Latency, count: int = 64, *, seed: int = 1, most: float = 400.0) -> LatencyModel:
    """Return a model of *count* attempts at 4 to 80 s with up to *most* seconds of other audio in flight."""
    dice, model = random.Random(seed), LatencyModel()
    for _ in range(count):
        audio, ahead = dice.uniform(4.0, 80.0), dice.uniform(0.0, most)
        model.add(audio, ahead, latency(audio, ahead, dice))
    return model


def test_a_queue_is_recognised_by_its_slope() -> None:
    """67 s of audio a second, first come, first served: the slope is one over that, for the own audio as well."""
    model = fitted(lambda audio, ahead, dice: 0.01 + (audio + ahead) / 67.0)
    assert model.queueing
    assert model.own == pytest.approx(1 / 67.0, rel=0.01)
    assert model.unloaded(40.0) == pytest.approx(0.01 + 40.0 / 67.0, rel=0.02)
    assert model.expect(40.0, 200.0) == pytest.approx(0.01 + 240.0 / 67.0, rel=0.01)
    assert repr(model) == "<LatencyModel 0.010 s + 0.0149 s per second of audio + 0.0149 s per second of other audio>"


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize(
    "latency",
    [
        lambda audio, ahead, dice: 5.0,
        lambda audio, ahead, dice: 0.1 + 0.06 * audio,
        lambda audio, ahead, dice: 2.0 * dice.lognormvariate(0.0, 0.8),
        lambda audio, ahead, dice: 8.0 if dice.random() < 0.5 else 2.0,
        lambda audio, ahead, dice: 20.0 if dice.random() < 0.03 else 2.0,
    ],
    ids=["slow", "in proportion", "jitter", "two speeds", "stragglers"],
)
def test_mere_slowness_is_no_queueing(latency: Latency, seed: int) -> None:
    """However slow, jittery or proportional to the text: other audio in flight changes nothing."""
    assert not fitted(latency, seed=seed).queueing


@pytest.mark.parametrize("seed", range(20))
def test_a_queue_is_recognised_through_jitter(seed: int) -> None:
    """Where the wait is most of the latency, a network that varies by its half does not hide it."""
    assert fitted(
        lambda audio, ahead, dice: (audio + ahead) / 67.0 + 0.5 * dice.lognormvariate(0.0, 0.5), seed=seed
    ).queueing


def test_what_both_explain_is_put_down_to_the_own_audio() -> None:
    """All attempts alike, few in flight or many: the two causes cannot be told apart, so nothing is limited."""
    dice, model = random.Random(1), LatencyModel()
    for _ in range(64):
        audio = dice.uniform(4.0, 80.0)
        model.add(audio, 7.0 * audio, 0.06 * audio)
    assert not model.queueing
    assert model.own == pytest.approx(0.06)


def test_few_attempts_decide_nothing() -> None:
    """Five could lie on a line by chance; attempts with nothing else in flight decide nothing either."""
    assert not fitted(lambda audio, ahead, dice: (audio + ahead) / 67.0, 5).queueing
    alone = fitted(lambda audio, ahead, dice: audio / 67.0, most=0.0)
    assert not alone.queueing
    assert alone.unloaded(67.0) == pytest.approx(1.0, rel=0.01)
    assert LatencyModel().unloaded(4.0) == 0.0


def test_old_attempts_fade() -> None:
    """Twice the GPUs: after some two hundred attempts only these count."""
    dice, model = random.Random(1), fitted(lambda audio, ahead, dice: (audio + ahead) / 67.0)
    for _ in range(250):
        audio, ahead = dice.uniform(4.0, 80.0), dice.uniform(0.0, 400.0)
        model.add(audio, ahead, (audio + ahead) / 134.0)
    assert model.expect(40.0, 200.0) == pytest.approx(240.0 / 134.0, rel=0.05)

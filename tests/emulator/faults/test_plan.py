"""Which request meets which fault."""

from __future__ import annotations

import random
from typing import Any

import pytest

from cosyclient.emulator.faults.plan import FAULTS, HANDSHAKE_FAULTS, Fault, FaultPlan


def plan(**shares: float) -> FaultPlan:
    """Return a plan with a fixed seed."""
    return FaultPlan(shares, random.Random(1))


@pytest.mark.parametrize("name", FAULTS)
def test_every_default_obeys_its_own_rule(name: str) -> None:
    """A fault with its defaults spelled out is valid."""
    defaults = {parameter: default for parameter, (default, _) in FAULTS[name].items()}
    fault = Fault(name, defaults)
    assert {parameter: Fault(name)[parameter] for parameter in defaults} == {each: fault[each] for each in defaults}


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("nothing", {}, "fault must be one of"),
        ("cut", {"share": 2}, "share of fault cut must be"),
        ("cut", {"shares": 1}, "does not take 'shares'; it takes share, chunked"),
        ("empty", {"x": 1}, "it takes nothing"),
    ],
)
def test_a_wrong_fault_is_refused(name: str, params: dict[str, Any], message: str) -> None:
    """The error names the fault, or the parameter and its rule."""
    with pytest.raises(ValueError, match=message):
        Fault(name, params)


def test_injected_faults_come_first_and_in_order() -> None:
    """Before any at random, and only as often as injected."""
    faults = plan()
    faults.inject(Fault("cut"))
    faults.inject(Fault("empty"), count=2)
    drawn = [fault.name if (fault := faults.draw()) else "" for _ in range(4)]
    assert drawn == ["cut", "empty", "empty", ""]


def test_handshake_faults_are_for_handshakes() -> None:
    """A request never draws one, nor a handshake another."""
    (name,) = HANDSHAKE_FAULTS
    faults = plan()
    faults.inject(Fault(name))
    faults.inject(Fault("cut"))
    request, handshake = faults.draw(), faults.draw(handshake=True)
    assert request is not None
    assert handshake is not None
    assert (request.name, handshake.name) == ("cut", name)


def test_random_faults_have_their_shares() -> None:
    """About; a cleared plan keeps them."""
    faults = plan(throttle=0.2, cut=0.1)
    faults.inject(Fault("empty"), count=100)
    faults.clear()
    drawn = [fault.name if (fault := faults.draw()) else "" for _ in range(2000)]
    assert drawn.count("empty") == 0
    assert drawn.count("throttle") == pytest.approx(400, rel=0.2)
    assert drawn.count("cut") == pytest.approx(200, rel=0.2)


@pytest.mark.parametrize("count", [0, -1, 100_001, 1.5, True])
def test_a_wrong_count_is_refused(count: Any) -> None:
    """It is a whole number from 1 to 100,000."""
    with pytest.raises(ValueError, match="count must be between 1 and 100000"):
        plan().inject(Fault("cut"), count)

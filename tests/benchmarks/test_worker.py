"""One client in a process of its own, against a gateway that answers from memory. Counts only."""

from __future__ import annotations

import pytest

from benchmarks.harness.gateway import GatewaySpec
from benchmarks.harness.loads import LoadSpec
from benchmarks.harness.processes import ProcessFailed
from benchmarks.harness.wires import reply
from benchmarks.harness.worker import measure


@pytest.mark.parametrize("confined", [True, False])
def test_the_clients_figures_and_the_gateways_come_together(confined: bool) -> None:
    """Those of the measured part: one uncounted batch came before it."""
    load = LoadSpec(peer="c", audio="wav", texts=150, seconds=0.0, warm_up=0.0, confined=confined)
    run = measure(load, GatewaySpec(reply=reply("wav")))
    assert (run.asked, run.finished, run.requests, run.throttled, run.early_throttled) == (150, 150, 3, 0, 0)


def test_a_package_can_be_hidden_from_the_client() -> None:
    """Ours does without those of the extra ``fast``; the bare loop does not."""
    load = LoadSpec(peer="c", audio="wav", texts=64, seconds=0.1, warm_up=0.1)
    service = GatewaySpec(reply=reply("wav"))
    assert measure(load, service, without=("orjson", "pybase64")).finished == 64
    with pytest.raises(ProcessFailed, match="pybase64"):
        measure(LoadSpec(peer="bare", audio="wav", seconds=0.1, warm_up=0.1), service, without=("pybase64",))

"""A client made and used before fork() works on both sides of it, and no process gets another's audio."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import finish, start

if TYPE_CHECKING:
    from cosyclient.emulator import Emulator


def test_parent_child_and_grandchild_can_use_the_same_client() -> None:
    code, output, errors = finish(start("fork_twice"))
    assert (code, errors) == (0, "")
    parent = json.loads(output)
    child = parent.pop("child")
    grandchild = child.pop("below")

    assert parent["wrong"] == child["wrong"] == grandchild["wrong"] == []
    # A text under way at the fork belongs to the parent, which gets the speech; in the child it fails.
    assert parent["pending"] == ["under way", "queued"]
    assert child["pending"] == ["ClientClosed", "ClientClosed"]
    assert child["told"] == [], "callbacks belong to the process that gave them"
    assert len(parent["told"]) == 2
    assert child["clean"], "a child's stats begin at zero"
    assert child["narrow"] == grandchild["narrow"] == "x"
    assert grandchild["pending"] == ["of the child"]


@pytest.mark.parametrize(("kind", "workers"), [("fork", 3), ("spawn", 3), ("forkserver", 3), ("thread", 0)])
def test_a_pool_of_workers_shares_one_module_level_client(echo: Emulator, kind: str, workers: int) -> None:
    code, output, errors = finish(start("pools", kind, COSYCLIENT_BASE_URL=echo.url))
    assert (code, errors) == (0, "")
    report = json.loads(output)
    assert report.pop("workers") <= workers
    assert report == {"single": True, "whole": True, "children": 0}


# The program was run with 10,000 texts a side, too; that takes a minute.
def test_hundreds_of_requests_on_both_sides_of_a_fork_bring_no_wrong_body() -> None:
    """Keep-alive sockets are warm at the fork; each text is a request of its own and comes back in its audio."""
    calls = 400
    code, output, errors = finish(start("fork_tagged", str(calls)))
    assert (code, errors) == (0, "")
    report = json.loads(output)
    assert report["warm"] == 8
    assert report["parent"]["wrong"] == report["child"]["wrong"] == 0
    assert report["requests"] == 100 + 2 * calls
    assert report["child"]["opened"] >= 1, "a child makes connections of its own"


def test_a_fork_that_bypasses_python_is_detected(echo: Emulator) -> None:
    """As uWSGI makes them: the client finds out by itself and starts clean."""
    code, output, errors = finish(start("raw_fork", COSYCLIENT_BASE_URL=echo.url))
    assert (code, sorted(output.splitlines()), errors) == (0, ["child 21", "parent 21"], "")

"""A bounded queue bounds memory, however much is submitted. (A million texts were tried with the same program.)"""

from __future__ import annotations

import json

import pytest

from tests.support.waiting import finish, start

COUNT = 8_000
PLACES = 1000


@pytest.mark.parametrize("overflow", ["reject", "block"])
def test_far_more_texts_than_permits_leave_nothing_behind(overflow: str) -> None:
    """A thousand places are taken at most, and nothing of the others stays: neither objects nor bytes."""
    code, output, errors = finish(start("bounded", overflow, str(COUNT)))
    assert (code, errors) == (0, "")
    report = json.loads(output)
    assert 0 < report["most"] <= PLACES
    assert report["pending"] == 0
    refused = COUNT - PLACES if overflow == "reject" else 0
    assert (report["refused"], report["spoken"]) == (refused, COUNT - refused)
    # Something left of each text would be 6,000 times something; executors and workers keep a few objects of their own.
    assert report["grown"]["objects"] < 500
    assert report["grown"]["traced"] < 200_000

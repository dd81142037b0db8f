"""Modules run in processes of their own."""

from __future__ import annotations

import json
import os
import sys

import pytest

from benchmarks.harness.processes import ProcessFailed, environment, read_parameters, run_module, send_mark


def test_a_process_gets_its_parameters_and_may_ask_for_attention() -> None:
    """Its last line is its figures; what it printed before is not."""
    marks: list[str] = []
    figures = run_module(__name__, {"answer": 42}, on_mark=lambda: marks.append("mark"), more_environment={"MORE": "x"})
    assert figures == {"answer": 42, "more": "x"}
    assert marks == ["mark", "mark"]


def test_modules_can_be_hidden_from_a_process() -> None:
    """As if they were not installed."""
    with pytest.raises(ProcessFailed, match="No module named orjson"):
        run_module("orjson", {}, without=("pybase64", "orjson"))


def test_a_process_that_fails_is_reported_with_what_it_wrote() -> None:
    """Its exit status and the end of its stderr."""
    with pytest.raises(ProcessFailed, match=r"(?s)no_such_module ended with 1:.*No module named"):
        run_module("benchmarks.no_such_module", {})


def test_a_process_imports_what_this_one_does() -> None:
    """Whatever the directory it starts in."""
    assert environment(MORE="x")["MORE"] == "x"
    assert set(environment()["PYTHONPATH"].split(os.pathsep)) >= {path for path in sys.path if path}


if __name__ == "__main__":
    parameters = read_parameters()
    print("noise", flush=True)
    send_mark()
    send_mark()
    print(json.dumps({**parameters, "more": os.environ["MORE"]}), flush=True)

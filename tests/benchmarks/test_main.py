"""The command: what it lists, what it refuses, and what it names as missing."""

from __future__ import annotations

from importlib import import_module

import pytest

from benchmarks.__main__ import main
from benchmarks.catalogue import BENCHMARKS
from benchmarks.harness.extra import ExtraMissing, require_extra
from benchmarks.harness.options import DEFAULT_OUTPUT, FORMATS, Options


def test_the_command_lists_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, name first."""
    assert main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(BENCHMARKS)


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "nonsense"], ["report", "--repeat", "0"]])
def test_the_command_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    """Usage errors exit with 2."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_a_missing_extra_is_named_with_its_remedy() -> None:
    """The message is enough to know what to install."""
    with pytest.raises(ExtraMissing, match=r"no_such_package.*pip install '\.\[bench\]'"):
        require_extra(("json", "no_such_package"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_can_be_run(name: str) -> None:
    """Its module is the one that the catalogue names."""
    assert callable(import_module(BENCHMARKS[name].module).run)


def test_results_go_beside_the_benchmarks() -> None:
    """Into a folder that version control ignores."""
    assert DEFAULT_OUTPUT.parts[-2:] == ("benchmarks", "results")
    assert Options().audio == FORMATS[0]

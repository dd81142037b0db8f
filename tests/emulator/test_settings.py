"""The settings: their rules, and the options of the command line."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient.emulator import Settings, add_arguments, from_arguments

if TYPE_CHECKING:
    from pathlib import Path


def parsed(*arguments: str) -> Settings:
    """Read a command line."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_arguments(parser)
    return from_arguments(parser.parse_args(arguments))


@pytest.mark.parametrize(
    ("switches", "error"),
    [
        ({"port": 65536}, "port must be at most 65535"),
        ({"port": "80"}, "port must be of type int"),
        ({"engine": "piano"}, "engine must be one of espeak, tone, echo"),
        ({"rtt": -0.1}, "rtt must be at least 0"),
        ({"rtt": float("nan")}, "rtt must be finite"),
        ({"gpus": 1.5}, "gpus must be of type int"),
        ({"rate": True}, "rate must be of type float"),
        ({"burst": 0}, "burst must be at least 1"),
        ({"frames": 1}, "frames must be of type bool"),
        ({"api_key": 5}, "api_key must be of type str"),
        ({"connection_refusal": "shout"}, "connection_refusal must be one of reply, reset"),
        ({"fault": {"quake": 0.1}}, "fault must name one of throttle"),
        ({"fault": {"cut": 1.1}}, "fault cut must be a share between 0 and 1"),
        ({"fault": {"cut": 0.6, "hang": 0.6}}, "fault shares must add up to at most 1"),
        ({"fault": "cut"}, "fault must map names to shares"),
    ],
)
def test_a_broken_rule_names_the_option(switches: dict[str, Any], error: str) -> None:
    """The ValueError says which, and why."""
    with pytest.raises(ValueError, match=error):
        Settings(**switches)


def test_the_defaults_are_the_same_on_the_command_line() -> None:
    """No option, no difference."""
    assert parsed() == Settings()


def test_every_field_is_an_option_of_the_command_line() -> None:
    """Numbers, choices, flags and faults."""
    settings = parsed(
        *("--engine", "tone", "--rtt", "0.2", "--gpus", "2", "--rtf", "0.07", "--rate", "100", "--burst", "5"),
        *("--connections", "50", "--connection-refusal", "reset", "--api-key", "k", "--no-frames", "--gzip"),
        *("--fault", "throttle=0.1", "--fault", "reset=0.05", "--seed", "3", "--json-shape", "array", "--port", "0"),
        *("--slow-start", "1", "--item-delay", "0.5", "--max-body-bytes", "99", "--keep-alive", "5", "--max-wait", "3"),
        *("--host", "::1", "--no-quota-headers"),
    )
    assert settings == Settings(
        host="::1",
        engine="tone",
        rtt=0.2,
        gpus=2,
        rtf=0.07,
        max_wait=3.0,
        rate=100.0,
        burst=5,
        connections=50,
        connection_refusal="reset",
        api_key="k",
        keep_alive=5.0,
        frames=False,
        json_shape="array",
        item_delay=0.5,
        max_body_bytes=99,
        gzip=True,
        quota_headers=False,
        seed=3,
        slow_start=1.0,
        fault={"throttle": 0.1, "reset": 0.05},
    )
    assert Settings(**settings.as_dict()) == settings


@pytest.mark.parametrize(
    "arguments", [("--fault", "throttle"), ("--fault", "cut=half"), ("--engine", "x"), ("--rtt", "y")]
)
def test_a_wrong_option_is_a_usage_error(arguments: tuple[str, str]) -> None:
    """The parser itself complains."""
    with pytest.raises(argparse.ArgumentError):
        parsed(*arguments)


def test_every_option_has_a_help_text(capsys: pytest.CaptureFixture[str]) -> None:
    """In the output of ``--help``."""
    parser = argparse.ArgumentParser(prog="emulator")
    add_arguments(parser)
    parser.print_help()
    shown = capsys.readouterr().out
    for word in ("--rtt", "round trip", "--fault", "throttle", "--no-frames", "[default: espeak]"):
        assert word in shown


def test_the_key_may_come_from_a_file(tmp_path: Path) -> None:
    """Other users can read the command line."""
    key = tmp_path / "key"
    key.write_text("s3cret\n")
    assert parsed("--api-key-file", str(key)).api_key == "s3cret"
    with pytest.raises(ValueError, match="api_key_file must be left out beside api_key"):
        parsed("--api-key-file", str(key), "--api-key", "k")
    with pytest.raises(ValueError, match="missing: No such file"):
        parsed("--api-key-file", str(tmp_path / "missing"))
    key.write_text(" ")
    with pytest.raises(ValueError, match="holds no key"):
        parsed("--api-key-file", str(key))

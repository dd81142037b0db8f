"""Emulators for these tests: one process per choice of switches, reset for each test."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient.emulator import Emulator, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., Emulator]


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """Start an emulator with these switches, or reset the one that runs with them."""
    running: dict[str, Emulator] = {}
    with ExitStack() as stack:

        def start(**switches: Any) -> Emulator:
            switches = {"engine": "tone", **switches}
            key = json.dumps(switches, sort_keys=True)
            if key not in running:
                running[key] = stack.enter_context(Emulator(Settings(**switches)))
            running[key].reset()
            return running[key]

        yield start


@pytest.fixture
def emulator(start: Start) -> Emulator:
    """Return an emulator without any switch but the cheap voice."""
    return start()

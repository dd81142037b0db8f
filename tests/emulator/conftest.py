"""Emulators for these tests: one process per choice of settings, reset for each test."""

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
    """Start an emulator with these settings, or reset the one that runs with them."""
    running: dict[str, Emulator] = {}
    with ExitStack() as stack:

        def start(**options: Any) -> Emulator:
            options = {"engine": "tone", **options}
            key = json.dumps(options, sort_keys=True)
            if key not in running:
                running[key] = stack.enter_context(Emulator(Settings(**options)))
            running[key].reset()
            return running[key]

        yield start


@pytest.fixture
def emulator(start: Start) -> Emulator:
    """Return an emulator with default settings but for the tone engine."""
    return start()

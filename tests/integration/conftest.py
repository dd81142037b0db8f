"""The service of these tests: audio that carries the text it was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cosyclient.emulator import Emulator, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def echo_service() -> Iterator[Emulator]:
    """Return an emulator shared by all tests."""
    with running(engine="echo") as emulator:
        yield emulator


@pytest.fixture
def echo(echo_service: Emulator) -> Emulator:
    """Return the emulator with fresh counters and no faults waiting."""
    echo_service.reset()
    return echo_service

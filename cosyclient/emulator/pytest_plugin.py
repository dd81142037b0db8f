"""Give a test suite the emulator as a pytest fixture.

The suite asks for it in its topmost ``conftest.py``::

    pytest_plugins = ["cosyclient.emulator.pytest_plugin"]

A test takes the fixture by its name::

    def test_speech(cosyvoice_emulator):
        with CosyClient(cosyvoice_emulator.url) as cosy:
            assert cosy.synthesize("你好").audio

Each test gets an emulator whose counters and faults are fresh; one process serves all tests with equal settings.
Choose other settings for one test with a marker:

    @pytest.mark.cosyvoice_emulator(engine="echo", rtt=0.2)

or for a module, a directory or a whole suite by overriding the fixture ``cosyvoice_emulator_settings`` there with one
that returns ``cosyclient.emulator.Settings(...)``. A test that needs several emulators asks for the fixture
``cosyvoice_emulators`` and calls it once for each: ``cosyvoice_emulators(rate=5, burst=5)``.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosyclient.emulator import Emulator, Settings

_MARKER = "cosyvoice_emulator(**options): settings of the emulator for this test"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture(scope="session")
def cosyvoice_emulators() -> Iterator[Callable[..., Emulator]]:
    """Return a function that starts an emulator, or returns the running one with the same settings, reset."""
    from cosyclient.emulator import Emulator, Settings

    started: dict[str, Emulator] = {}
    with ExitStack() as stack:

        def start(settings: Settings | None = None, /, **options: Any) -> Emulator:
            settings = settings or Settings(**{"engine": "tone", **options})
            key = json.dumps(settings.as_dict(), sort_keys=True)
            if key not in started:
                started[key] = stack.enter_context(Emulator(settings))
            started[key].reset()
            return started[key]

        yield start


@pytest.fixture
def cosyvoice_emulator_settings() -> Settings:
    """Return the settings of ``cosyvoice_emulator``; override it."""
    from cosyclient.emulator import Settings

    return Settings(engine="tone")


@pytest.fixture
def cosyvoice_emulator(
    request: pytest.FixtureRequest,
    cosyvoice_emulators: Callable[..., Emulator],
    cosyvoice_emulator_settings: Settings,
) -> Emulator:
    """Return an emulator with fresh counters and no pending faults."""
    from dataclasses import replace

    marker = request.node.get_closest_marker("cosyvoice_emulator")
    options = marker.kwargs if marker else {}
    return cosyvoice_emulators(replace(cosyvoice_emulator_settings, **options))

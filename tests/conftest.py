"""What all tests share: a profile for property tests (a busy machine is no failure), and emulators by switches."""

from hypothesis import settings

from tests.emulator.conftest import start

__all__ = ["start"]

settings.register_profile("cosyclient", deadline=None)
settings.load_profile("cosyclient")

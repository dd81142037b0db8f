"""Say what is missing when the emulator cannot run here."""

from importlib.util import find_spec

_NEEDED = ("starlette", "uvicorn", "httptools", "numpy", "soundfile", "soxr", "espeakng_loader")


class EmulatorError(RuntimeError):
    """Tell the caller that the emulator did not start, or no longer answers."""


class ExtraMissing(EmulatorError, ImportError):
    """Tell the caller which packages the emulator lacks and how to install them."""


def require_extra() -> None:
    """Refuse early, by name, when a package of the extra is not installed."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ExtraMissing(f"the emulator needs {', '.join(missing)}: run  pip install 'cosyclient[emulator]'")

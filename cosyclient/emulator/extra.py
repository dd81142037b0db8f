"""Say what is missing when the emulator cannot run here."""

from importlib.util import find_spec

_NEEDED = ("starlette", "uvicorn", "httptools", "numpy", "soundfile", "soxr", "espeakng_loader")


class EmulatorError(RuntimeError):
    """Tell the caller that the emulator did not start, or no longer answers."""


class ExtraMissing(EmulatorError, ImportError):
    """Tell the caller which packages the emulator lacks and how to install them."""


def require_extra(*more: str) -> None:
    """Refuse early, by name, when a package of the extra is not installed, or one of *more*."""
    missing = [name for name in (*_NEEDED, *more) if not _is_there(name)]
    if missing:
        raise ExtraMissing(f"the emulator needs {', '.join(missing)}: run  pip install '.[emulator]' in the checkout")


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False  # not even the package it would be in

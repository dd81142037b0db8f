"""Check that the packages of the extra ``emulator`` are installed."""

from importlib.util import find_spec

_NEEDED = ("starlette", "uvicorn", "httptools", "numpy", "soundfile", "soxr", "espeakng_loader")


class EmulatorError(RuntimeError):
    """The emulator did not start, or no longer answers."""


class ExtraMissing(EmulatorError, ImportError):
    """Packages that the emulator needs are missing; the message names them and the command to install them."""


def require_extra(*more: str) -> None:
    """Raise `ExtraMissing` when a package of the extra, or one of *more*, is not installed."""
    missing = [name for name in (*_NEEDED, *more) if not _is_there(name)]
    if missing:
        raise ExtraMissing(f"the emulator needs {', '.join(missing)}: run  pip install '.[emulator]' in the checkout")


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False  # its parent package is missing, too

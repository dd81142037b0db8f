"""Check that the packages of the extra ``bench`` are installed, and name the remedy where one is not."""

from __future__ import annotations

from importlib.util import find_spec


class ExtraMissing(RuntimeError):
    """Report that a package of the extra ``bench`` is not installed."""


def require_extra(packages: tuple[str, ...]) -> None:
    """Raise `ExtraMissing`, which names the package and the remedy, unless all of *packages* can be imported."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ExtraMissing(
            f"the benchmarks need {', '.join(missing)}, which is not installed: pip install '.[bench]' in the checkout"
        )

"""The ``COSYCLIENT_…`` variables: which there are, how each is read, and the error for one that does not exist."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cosyclient.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

PREFIX: Final = "COSYCLIENT_"
_YES: Final = frozenset({"1", "true", "yes", "on"})
_NO: Final = frozenset({"0", "false", "no", "off"})
_MAX_SHOWN: Final = 80
"""Characters of a value that an error shows."""
# What Kubernetes sets in every container for a service that happens to be called "cosyclient".
_KUBERNETES: Final = re.compile(PREFIX + r"(?:SERVICE_(?:HOST|PORT)(?:_\w+)?|PORT(?:_\d+_\w+)?)")


@dataclass(frozen=True, slots=True)
class Variable:
    """Describe one variable: the argument of `CosyClient` that it stands for, and how its value is read."""

    argument: str
    read: Callable[[str], Any]
    """Return the value, or raise `ValueError`."""
    form: str
    """What a value looks like, for errors and the README."""
    secret: bool = False
    """Whether errors must not show the value."""

    @property
    def name(self) -> str:
        """Return the variable's name."""
        return PREFIX + self.argument.upper()


def _rate(raw: str) -> float:
    return math.inf if raw.lower() == "none" else float(raw)


def _flag(raw: str) -> bool:
    if raw.lower() not in _YES | _NO:
        raise ValueError(raw)
    return raw.lower() in _YES


def _verify(raw: str) -> bool | str:
    return raw.lower() in _YES if raw.lower() in _YES | _NO else raw


def _object(raw: str) -> dict[str, Any]:
    found = json.loads(raw)
    if not isinstance(found, dict):
        raise ValueError(raw)
    return found


_WORD: Final = "a word"
_COUNT: Final = "a whole number"
_NUMBER: Final = "a number"

VARIABLES: Final = (
    Variable("base_url", str, "an address"),
    Variable("api_key", str, "a key", secret=True),
    Variable("protocol", str, _WORD),
    Variable("model", str, _WORD),
    Variable("voice", str, _WORD),
    Variable("format", str, _WORD),
    Variable("sample_rate", int, _COUNT),
    Variable("speed", float, _NUMBER),
    Variable("on_silent", str, "error or silence"),
    Variable("headers", _object, "a JSON object of names and values", secret=True),
    Variable("extra", _object, "a JSON object"),
    Variable("requests_per_second", _rate, "a number, or none for no quota"),
    Variable("max_connections", int, _COUNT),
    Variable("concurrency", int, _COUNT),
    Variable("max_batch", int, _COUNT),
    Variable("timeout", float, "a number of seconds"),
    Variable("max_retries", int, _COUNT),
    Variable("verify", _verify, "true, false, or the path of a CA file or directory"),
    Variable("proxy", str, "an address", secret=True),
    Variable("trust_env", _flag, "true or false"),
)
"""Every variable; settings without an argument of their own (`ClientConfig`, transports, listeners) have none."""
_NAMES: Final = frozenset(variable.name for variable in VARIABLES)
# Options of the command line that have another name than the argument; the nearest name would be a wrong one.
_OPTIONS: Final = {
    "RATE": "REQUESTS_PER_SECOND",
    "CONNECTIONS": "MAX_CONNECTIONS",
    "RETRIES": "MAX_RETRIES",
    "CA_FILE": "VERIFY",
    "HEADER": "HEADERS",
}


def read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the values in *environ* by argument; an empty variable counts as not set.

    Raises `ConfigurationError` for a value that cannot be read, and for a ``COSYCLIENT_…`` variable that does not
    exist: with a mistyped name the setting would silently be missing.
    """
    check_names(environ)
    found: dict[str, Any] = {}
    for variable in VARIABLES:
        raw = environ.get(variable.name, "").strip()
        if not raw:
            continue
        try:
            found[variable.argument] = variable.read(raw)
        except (ValueError, RecursionError):
            shown = " (value not shown)" if variable.secret else f", got {raw[:_MAX_SHOWN]!r}"
            raise ConfigurationError(f"{variable.name}: must be {variable.form}{shown}") from None
    return found


def check_names(environ: Iterable[str]) -> None:
    """Raise `ConfigurationError` for a ``COSYCLIENT_…`` variable that does not exist, with the nearest that does."""
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in _NAMES and not _KUBERNETES.fullmatch(name):
            meant = _OPTIONS.get(name.removeprefix(PREFIX))
            near = f"; did you mean {PREFIX}{meant}?" if meant else did_you_mean(name, _NAMES)
            raise ConfigurationError(f"{name[:_MAX_SHOWN]}: no such variable{near}; the README lists all of them")


def markdown() -> str:
    """Return the table of all variables that the README shows."""
    rows = [f"| `{variable.name}` | `{variable.argument}=` | {variable.form} |" for variable in VARIABLES]
    return "\n".join(("| variable | stands for | holds |", "| --- | --- | --- |", *rows))

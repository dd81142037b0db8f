"""The wire protocols: bytes from utterances, speeches from bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cosyclient.errors import ConfigurationError
from cosyclient.protocols.batch import BatchProtocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cosyclient.config import WireConfig
    from cosyclient.protocols.base import WireProtocol

PROTOCOLS: Final[Mapping[str, Callable[[WireConfig], WireProtocol]]] = {"batch": BatchProtocol}


def protocol_for(name: str, wire: WireConfig) -> WireProtocol:
    """Return the protocol called *name*; `ConfigurationError` lists those there are."""
    make = PROTOCOLS.get(name)
    if make is None:
        raise ConfigurationError(f"protocol: {name!r} is not one of {', '.join(sorted(PROTOCOLS))}")
    return make(wire)

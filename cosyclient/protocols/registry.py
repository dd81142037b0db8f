"""The wire protocols by name: declared by their packages, listed here, and every list of protocols is made of this."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from cosyclient.config import WireConfig
from cosyclient.errors import BadUtterance, ConfigurationError, did_you_mean
from cosyclient.protocols import alibaba, batch, cosyvoice, lighttts, openai, triton, vllm_omni
from cosyclient.protocols.capabilities import faults

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cosyclient.models import VoiceSettings
    from cosyclient.protocols.base import Capabilities, WireProtocol
    from cosyclient.protocols.entry import ProtocolEntry

# In the order in which their probes of one rank are sent.
_FAMILIES: Final = (
    openai,
    cosyvoice,
    lighttts,
    triton,
    alibaba,
    vllm_omni,
    batch,
)

ENTRIES: Final[Mapping[str, ProtocolEntry]] = {entry.name: entry for family in _FAMILIES for entry in family.ENTRIES}
"""Every protocol and dialect by its name, in the order of their probes."""


def families() -> list[str]:
    """Return the name of every protocol in alphabetical order, without dialects."""
    return sorted(entry.name for entry in ENTRIES.values() if not entry.dialect)


def every_name() -> list[str]:
    """Return the name of every protocol in alphabetical order, each followed by those of its dialects."""
    return sorted(ENTRIES, key=lambda name: ENTRIES[name].family)


def entry_for(name: str) -> ProtocolEntry:
    """Return the entry of *name*, a protocol or ``protocol:dialect``; `ConfigurationError` lists those there are."""
    if (entry := ENTRIES.get(name)) is not None:
        return entry
    family, _, dialect = name.partition(":")
    if family not in (known := families()):
        near = did_you_mean(family, known)
        raise ConfigurationError(f"protocol: {name[:80]!r} is not one of {', '.join(known)}{near}")
    if not dialect:
        return ENTRIES[family]
    dialects = [each.dialect for each in ENTRIES.values() if each.dialect and each.family == family]
    rule = f"its dialects are {', '.join(dialects)}" if dialects else "it has no dialects"
    raise ConfigurationError(f"protocol: {family} knows no {dialect!r}; {rule}")


def protocol_for(name: str, wire: WireConfig) -> WireProtocol:
    """Return the protocol called *name*; imports its implementation; raises like `entry_for`."""
    entry = entry_for(name)
    module, _, attribute = entry.implementation.partition(":")
    implementation = getattr(import_module(module), attribute)
    made: WireProtocol = implementation(wire, dialect=entry.dialect) if entry.dialect else implementation(wire)
    return made


def check_supported(protocol: WireProtocol, settings: VoiceSettings) -> None:
    """Raise the `BadUtterance` of *settings* that *protocol* cannot serve, naming the protocols that can.

    They are judged by the setting that failed alone: one that lacks another of a call's settings is a way out still.
    """
    fault = next(faults(protocol.name, protocol.capabilities, settings), None)
    if fault is None:
        return
    if fault.only_here:
        raise BadUtterance(fault.message)
    raise BadUtterance(f"{fault.message}; {protocols_where(lambda can: _serves(can, settings, fault.field))}")


def protocols_where(able: Callable[[Capabilities], bool]) -> str:
    """Return a clause for an error that lists the protocols whose capabilities are *able*."""
    names = [name for name in every_name() if able(protocol_for(name, WireConfig()).capabilities)]
    return f"protocols that can do it: {', '.join(names)}" if names else "no protocol can do it"


def _serves(can: Capabilities, settings: VoiceSettings, field: str) -> bool:
    return all(fault.field != field for fault in faults("", can, settings) if not fault.only_here)

"""The wire protocols by name: which there are, which one an address means, and what each can serve."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from cosyclient.config import WireConfig
from cosyclient.errors import BadUtterance, ConfigurationError, did_you_mean
from cosyclient.protocols.addresses import guess, home
from cosyclient.protocols.base import check_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosyclient.models import VoiceSettings
    from cosyclient.protocols.base import WireProtocol

__all__ = ["PROTOCOLS", "check", "every_name", "guess", "home", "protocol_for"]

PROTOCOLS: Final[Mapping[str, str]] = {
    "batch": "batch.protocol:BatchProtocol",
    "grpc": "cosyvoice.grpc:RuntimeGrpcProtocol",
    "lighttts": "lighttts.http:LightTtsProtocol",
    "lighttts-ws": "lighttts.ws:LightTtsSocketProtocol",
    "model-studio": "alibaba.model_studio_ws:ModelStudioProtocol",
    "model-studio-http": "alibaba.model_studio_http:ModelStudioHttpProtocol",
    "openai": "openai.protocol:OpenAISpeechProtocol",
    "pai-eas": "alibaba.pai_eas:PaiEasProtocol",
    "runtime": "cosyvoice.http:RuntimeProtocol",
    "triton": "triton.protocol:TritonProtocol",
    "triton-grpc": "triton.protocol:TritonGrpcProtocol",
    "vllm-omni-ws": "vllm_omni.ws:VllmOmniSocketProtocol",
}
"""Every protocol by its name, and where it is; imported when asked for, so that extras stay extras."""


def every_name() -> list[str]:
    """Return the name of every protocol, followed by those of its dialects."""
    names = []
    for family in PROTOCOLS:
        names += [family, *(f"{family}:{dialect}" for dialect in getattr(_kind_of(family), "dialects", ()))]
    return names


def protocol_for(name: str, wire: WireConfig) -> WireProtocol:
    """Return the protocol called *name*, or ``name:dialect``; `ConfigurationError` lists those there are."""
    family, _, dialect = name.partition(":")
    if family not in PROTOCOLS:
        near = did_you_mean(family, PROTOCOLS)
        raise ConfigurationError(f"protocol: {name[:80]!r} is not one of {', '.join(sorted(PROTOCOLS))}{near}")
    make = _kind_of(family)
    known = getattr(make, "dialects", ())
    if dialect and dialect not in known:
        rule = f"its dialects are {', '.join(known)}" if known else "it has no dialects"
        raise ConfigurationError(f"protocol: {family} knows no {dialect!r}; {rule}")
    made: WireProtocol = make(wire, dialect=dialect) if dialect else make(wire)
    return made


def check(protocol: WireProtocol, settings: VoiceSettings) -> None:
    """Raise the `BadUtterance` of *settings* that *protocol* cannot serve, naming the protocols that can."""
    try:
        check_settings(protocol.name, protocol.capabilities, settings)
    except BadUtterance as error:
        able = [name for name in every_name() if _serves(name, settings)]
        others = f"protocols that can do it: {', '.join(able)}" if able else "no protocol can do all that is asked for"
        raise BadUtterance(f"{error}; {others}") from None


def _serves(name: str, settings: VoiceSettings) -> bool:
    try:
        check_settings(name, protocol_for(name, WireConfig()).capabilities, settings)
    except BadUtterance:
        return False
    return True


def _kind_of(family: str) -> Any:
    module, _, kind = PROTOCOLS[family].partition(":")
    return getattr(import_module(f"cosyclient.protocols.{module}"), kind)

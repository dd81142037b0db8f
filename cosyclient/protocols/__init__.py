"""The wire protocols: bytes from utterances, speeches from bytes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from cosyclient.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosyclient.config import WireConfig
    from cosyclient.protocols.base import WireProtocol

PROTOCOLS: Final[Mapping[str, str]] = {
    "batch": "batch:BatchProtocol",
    "lighttts": "lighttts:LightTtsProtocol",
    "model-studio-http": "model_studio_http:ModelStudioHttpProtocol",
    "pai-eas": "pai_eas:PaiEasProtocol",
    "runtime": "runtime_http:RuntimeProtocol",
}
"""Every protocol by its name, and where it is; imported when asked for, so that extras stay extras."""

# Hosts and schemes that can mean only one thing. A path cannot: servers are mounted anywhere.
_HOSTS: Final = {
    "api.openai.com": "openai",
    "api.siliconflow.cn": "openai:siliconflow",
    "api.siliconflow.com": "openai:siliconflow",
    "dashscope.aliyuncs.com": "model-studio",
    "dashscope-intl.aliyuncs.com": "model-studio",
}
_MODEL_STUDIO_HOSTS: Final = ".maas.aliyuncs.com"
_DEFAULT: Final = "batch"


def guess(url: str) -> str:
    """Return the protocol that *url* can only mean, or ``"batch"``; a plain host says nothing of what answers there."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    known = "model-studio" if host.endswith(_MODEL_STUDIO_HOSTS) else _HOSTS.get(host)
    if known is not None:
        plain = known == "model-studio" and parts.scheme in ("http", "https")
        return "model-studio-http" if plain else known
    return "grpc" if parts.scheme in ("grpc", "grpcs") else _DEFAULT


def protocol_for(name: str, wire: WireConfig) -> WireProtocol:
    """Return the protocol called *name*, or ``name:dialect``; `ConfigurationError` lists those there are."""
    family, _, dialect = name.partition(":")
    place = PROTOCOLS.get(family)
    if place is None:
        raise ConfigurationError(f"protocol: {name!r} is not one of {', '.join(sorted(PROTOCOLS))}")
    module, _, kind = place.partition(":")
    make = getattr(import_module(f"cosyclient.protocols.{module}"), kind)
    made: WireProtocol = make(wire, dialect=dialect) if dialect else make(wire)
    return made

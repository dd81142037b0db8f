"""The ways CosyVoice is served, each a face of the one service behind them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cosyclient.emulator.apis.base import Api
    from cosyclient.emulator.core.service import Service

APIS: Final[Mapping[str, tuple[str, ...]]] = {
    "batch": ("batch.api:BatchApi",),
    "lighttts": ("lighttts.ws:LightTtsWebSocketApi", "lighttts.http:LightTtsHttpApi"),
    "model-studio": ("alibaba.model_studio_ws:ModelStudioWebSocketApi", "alibaba.model_studio_http:ModelStudioHttpApi"),
    "openai": ("openai.api:OpenAISpeechApi", "vllm_omni.ws:VllmWebSocketApi"),
    "pai-eas": ("alibaba.pai_eas:PaiEasApi",),
    "runtime": ("cosyvoice.http:RuntimeHttpApi",),
    "triton": ("triton.http:TritonHttpApi",),
}


def build_apis(service: Service) -> Sequence[Api]:
    """Return the faces of *service* over HTTP and WebSocket, all or those asked for; their paths do not collide."""
    wanted = service.settings.serve
    return [_load(kind)(service) for name, kinds in APIS.items() if wanted in ("all", name) for kind in kinds]


def _load(kind: str) -> Callable[[Service], Api]:
    """Import a face when it is served: what else is in this package is used by the modules that faces stand on."""
    module, _, name = kind.partition(":")
    found: Callable[[Service], Api] = getattr(import_module(f"{__name__}.{module}"), name)
    return found

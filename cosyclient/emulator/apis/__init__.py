"""The ways CosyVoice is served, each a face of the one service behind them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cosyclient.emulator.apis.base import Face
    from cosyclient.emulator.core.service import Service

_FACES: Final[Mapping[str, tuple[str, ...]]] = {
    "batch": ("batch.api:BatchFace",),
    "lighttts": ("lighttts.ws:LightTtsSocketFace", "lighttts.http:LightTtsFace"),
    "model-studio": ("alibaba.model_studio_ws:ModelStudioFace", "alibaba.model_studio_http:ModelStudioHttpFace"),
    "openai": ("openai.api:OpenAIFace", "vllm_omni.ws:VllmSocketFace"),
    "pai-eas": ("alibaba.pai_eas:PaiEasFace",),
    "runtime": ("cosyvoice.http:RuntimeFace",),
    "triton": ("triton.http:TritonHttpFace",),
}


def faces(service: Service) -> Sequence[Face]:
    """Return the faces of *service* over HTTP and WebSocket, all or those asked for; their paths do not collide."""
    wanted = service.settings.serve
    return [_load(kind)(service) for name, kinds in _FACES.items() if wanted in ("all", name) for kind in kinds]


def _load(kind: str) -> Callable[[Service], Face]:
    """Import a face when it is served: what else is in this package is used by the modules that faces stand on."""
    module, _, name = kind.partition(":")
    found: Callable[[Service], Face] = getattr(import_module(f"{__name__}.{module}"), name)
    return found

"""The ways CosyVoice is served, each a face of the one service behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cosyclient.emulator.batch import BatchFace
from cosyclient.emulator.faces.lighttts import LightTtsFace
from cosyclient.emulator.faces.lighttts_ws import LightTtsSocketFace
from cosyclient.emulator.faces.model_studio_http import ModelStudioHttpFace
from cosyclient.emulator.faces.model_studio_ws import ModelStudioFace
from cosyclient.emulator.faces.openai_speech import OpenAIFace
from cosyclient.emulator.faces.pai_eas import PaiEasFace
from cosyclient.emulator.faces.runtime import RuntimeFace
from cosyclient.emulator.faces.triton_http import TritonHttpFace
from cosyclient.emulator.faces.vllm_ws import VllmSocketFace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosyclient.emulator.faces.base import Face
    from cosyclient.emulator.service import Service

_FACES: Final = {
    "batch": (BatchFace,),
    "lighttts": (LightTtsSocketFace, LightTtsFace),
    "model-studio": (ModelStudioFace, ModelStudioHttpFace),
    "openai": (OpenAIFace, VllmSocketFace),
    "pai-eas": (PaiEasFace,),
    "runtime": (RuntimeFace,),
    "triton": (TritonHttpFace,),
}


def faces(service: Service) -> Sequence[Face]:
    """Return the faces of *service* over HTTP and WebSocket, all or those asked for; their paths do not collide."""
    wanted = service.settings.serve
    return [face(service) for name, kinds in _FACES.items() if wanted in ("all", name) for face in kinds]

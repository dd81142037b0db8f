"""The APIs by which CosyVoice is served, all on the one service behind them.

`FAMILIES` is the only list of them: ``serve=``, the command line and both servers read it. A new API is a module that
defines one class, and its name here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cosyclient.emulator.apis.base import Api
    from cosyclient.emulator.apis.grpc import GrpcApi
    from cosyclient.emulator.core.service import Service


class Family(NamedTuple):
    """The APIs that one server offers, as ``module:class`` below this package."""

    http: tuple[str, ...]
    """Those over HTTP and WebSocket."""
    grpc: tuple[str, ...] = ()
    fastapi: bool = False
    """Whether the server answers a wrong path as FastAPI does."""


FAMILIES: Final[Mapping[str, Family]] = {
    "batch": Family(("batch.api:BatchApi",)),
    "lighttts": Family(("lighttts.ws:LightTtsWebSocketApi", "lighttts.http:LightTtsHttpApi"), fastapi=True),
    "model-studio": Family(
        ("alibaba.model_studio_ws:ModelStudioWebSocketApi", "alibaba.model_studio_http:ModelStudioHttpApi")
    ),
    "openai": Family(("openai.api:OpenAISpeechApi", "vllm_omni.ws:VllmWebSocketApi")),
    "pai-eas": Family(("alibaba.pai_eas:PaiEasApi",), fastapi=True),
    "runtime": Family(("cosyvoice.http:RuntimeHttpApi",), ("cosyvoice.grpc:RuntimeGrpcApi",), fastapi=True),
    "triton": Family(("triton.http:TritonHttpApi",), ("triton.grpc:TritonGrpcApi",)),
}


def build_apis(service: Service) -> Sequence[Api]:
    """Return the APIs of *service* over HTTP and WebSocket, all or those that ``serve=`` names."""
    serve = service.settings.serve
    return [_load(path)(service) for name, each in FAMILIES.items() if serve in ("all", name) for path in each.http]


def build_grpc_apis(service: Service) -> Sequence[GrpcApi]:
    """Return the APIs of *service* over gRPC."""
    return [_load(path)(service) for each in FAMILIES.values() for path in each.grpc]


def _load(path: str) -> Callable[[Service], Any]:
    # Imported when served: the settings read the table, and must not wait for what serves.
    module, _, name = path.partition(":")
    found: Callable[[Service], Any] = getattr(import_module(f"{__name__}.{module}"), name)
    return found

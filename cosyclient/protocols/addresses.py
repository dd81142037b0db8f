"""What an address tells: the protocol it can only mean, and what of its path is a protocol's route.

People paste the address of the very route that their service's documentation shows; that route is taken off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Hosts and schemes that can mean only one thing.
_HOSTS: Final = {
    "api.openai.com": "openai:openai",
    "api.siliconflow.cn": "openai:siliconflow",
    "api.siliconflow.com": "openai:siliconflow",
    "dashscope.aliyuncs.com": "model-studio",
    "dashscope-intl.aliyuncs.com": "model-studio",
    "dashscope-us.aliyuncs.com": "model-studio",
}
_MODEL_STUDIO_HOSTS: Final = ".maas.aliyuncs.com"
_DEFAULT: Final = "batch"

_ROUTES: Final[Mapping[str, tuple[str, ...]]] = {
    "batch": ("/batch",),
    "grpc": ("/cosyvoice.CosyVoice/Inference",),
    "lighttts": ("/inference_zero_shot",),
    "lighttts-ws": ("/inference_zero_shot_bistream",),
    "model-studio": ("/api-ws/v1/inference", "/api-ws/v1"),
    "model-studio-http": ("/api/v1/services/audio/tts/SpeechSynthesizer", "/compatible-mode/v1", "/api/v1"),
    "openai": (
        *("/v1/audio/speech/batch", "/v1/audio/speech", "/v1/audio/voices", "/v1/audio/voice/list", "/v1/voices"),
        *("/v1/models", "/v1/chat/completions"),
    ),
    "openai:triton-bridge": ("/audio/speech",),
    "pai-eas": ("/api/v1/audio/speech", "/api/v1/audio/reference_audio", "/api/v1"),
    "runtime": tuple(f"/inference_{mode}" for mode in ("sft", "zero_shot", "cross_lingual", "instruct", "instruct2")),
    "triton": ("/v2/models/*/infer", "/v2/models/*/versions/*/infer", "/v2/models/*", "/v2/health/ready", "/v2"),
    "triton-grpc": ("/inference.GRPCInferenceService/ModelStreamInfer",),
    "vllm-omni-ws": ("/v1/audio/speech/stream", "/v1/audio/speech", "/v1"),
}
"""What each protocol's own routes end in; ``*`` is one step. A dialect has those of its family, too."""
_OVER_SOCKETS: Final = ("lighttts-ws", "model-studio", "vllm-omni-ws")
_OVER_GRPC: Final = ("grpc", "triton-grpc")
_SCHEMES: Final = {"ws": _OVER_SOCKETS, "wss": _OVER_SOCKETS, "grpc": _OVER_GRPC, "grpcs": _OVER_GRPC}


class Home(NamedTuple):
    """Hold a service's base address, and the model that the route named, if it did."""

    url: str
    model: str | None = None


def guess(url: str) -> str:
    """Return the protocol that *url* can only mean, or ``"batch"``; a plain host says nothing of what answers there."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    known = "model-studio" if host.endswith(_MODEL_STUDIO_HOSTS) else _HOSTS.get(host)
    if known is not None:
        plain = known == "model-studio" and parts.scheme in ("http", "https")
        return "model-studio-http" if plain else known
    spoken = _SCHEMES.get(parts.scheme)
    found = [(len(route), name) for name, route, _ in _matches(parts.path) if _fits(name, spoken)]
    longest = {name for length, name in found if length == max(found)[0]}
    if len(longest) == 1:
        return longest.pop()
    return "grpc" if parts.scheme in ("grpc", "grpcs") else _DEFAULT


def home(url: str, protocol: str) -> Home:
    """Return *url* without the route of *protocol* at its end."""
    parts = urlsplit(url)
    family = protocol.partition(":")[0]
    found = [(route, rest) for name, route, rest in _matches(parts.path) if name in (protocol, family)]
    if not found:
        return Home(url)
    route, rest = max(found, key=lambda each: len(each[0]))
    model = None
    if "/models/*" in route:
        model = unquote(parts.path.removeprefix(rest).split("/")[route.split("/").index("*")])
    return Home(parts._replace(path=rest).geturl().rstrip("/"), model)


def _fits(name: str, spoken: tuple[str, ...] | None) -> bool:
    if spoken is not None:
        return name in spoken
    return not any(name in names for names in _SCHEMES.values())


def _matches(path: str) -> Iterator[tuple[str, str, str]]:
    """Yield each protocol that has a route at the end of *path*, that route, and what is before it."""
    steps = path.rstrip("/").split("/")
    for name, routes in _ROUTES.items():
        for route in routes:
            wanted = route.split("/")[1:]
            there = steps[-len(wanted) :]
            if len(steps) > len(wanted) and all(w in ("*", step) for w, step in zip(wanted, there, strict=True)):
                yield name, route, "/".join(steps[: -len(wanted)])

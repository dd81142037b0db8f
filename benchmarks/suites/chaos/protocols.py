"""Every way of serving that the emulator speaks, as the chaos benchmark asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cosyclient import BreakerConfig, ClientConfig, CosyClient, RetryConfig, TimeoutConfig, Voice
from cosyclient.audio import wav_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG: Final = ClientConfig(
    timeouts=TimeoutConfig(connect=2.0, first_byte=2.0),
    retry=RetryConfig(initial=0.05, cap=1.0),
    breaker=BreakerConfig(open_for=1.0),
)
"""Everything as it comes, but for spans that would let one fault outlast the phases of a run."""
RECORDING: Final = wav_bytes(b"\x00\x03\x00\xfd" * 8000, 16000, 1)
CLONE: Final = Voice.clone(RECORDING, "希望你以后能够做的比我还好呦。")


@dataclass(frozen=True, eq=False, kw_only=True)
class Way:
    """Say how one protocol is asked: scheme and path of its address, what its client is told."""

    protocol: str
    scheme: str = "http"
    path: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    uploads: bool = False
    """Whether its voice has to be uploaded first, and again when the service has forgotten it."""
    streams: bool = True
    texts: bool = False
    """Whether it takes a text that is still being written."""

    def client(self, url: str, grpc_url: str) -> CosyClient:
        """Return a client of the service at *url*."""
        address = grpc_url if self.scheme == "grpc" else url.replace("http", self.scheme, 1) + self.path
        return CosyClient(address, protocol=self.protocol, config=CONFIG, **self.options)

    def ready(self, client: CosyClient) -> CosyClient:
        """Return the view to call from now on, once the service has what it needs."""
        if not self.uploads:
            return client
        return client.with_options(voice=client.upload_voice(CLONE, "mine"))


WAYS: Final = (
    Way(protocol="batch", streams=False),
    Way(protocol="openai", options={"voice": "中文女", "model": "cosyvoice2"}),
    Way(protocol="runtime", options={"voice": "中文女"}),
    Way(protocol="grpc", scheme="grpc", options={"voice": CLONE}),
    Way(protocol="triton", streams=False),
    Way(protocol="triton-grpc", scheme="grpc", streams=False, options={"voice": CLONE}),
    Way(
        protocol="model-studio",
        scheme="ws",
        texts=True,
        options={"voice": "longanyang", "model": "cosyvoice-v3-flash", "sample_rate": 22050},
    ),
    Way(protocol="model-studio-http", options={"voice": "longanyang", "model": "cosyvoice-v3-flash"}),
    Way(protocol="lighttts", path="/lighttts", options={"voice": CLONE}),
    Way(protocol="lighttts-ws", scheme="ws", texts=True, options={"voice": CLONE}),
    Way(protocol="pai-eas", uploads=True),
    Way(protocol="vllm-omni-ws", scheme="ws", texts=True, options={"voice": CLONE}),
)

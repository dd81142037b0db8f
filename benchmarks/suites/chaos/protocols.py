"""Every protocol that the emulator serves, and how the chaos benchmark uses it."""

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
"""Defaults, except for spans that would let one fault outlast the phases of a run."""
RECORDING: Final = wav_bytes(b"\x00\x03\x00\xfd" * 8000, 16000, 1)
CLONE: Final = Voice.clone(RECORDING, "希望你以后能够做的比我还好呦。")


@dataclass(frozen=True, eq=False, kw_only=True)
class ProtocolCase:
    """Describe one protocol: scheme and path of its address, and its client's options."""

    protocol: str
    scheme: str = "http"
    path: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    uploads: bool = False
    """Whether its voice has to be uploaded first, and again when the service no longer has it."""
    streams: bool = True
    texts: bool = False
    """Whether it takes a text that is still being written."""

    def client(self, url: str, grpc_url: str) -> CosyClient:
        """Return a client of the service at *url*."""
        address = grpc_url if self.scheme == "grpc" else url.replace("http", self.scheme, 1) + self.path
        return CosyClient(address, protocol=self.protocol, config=CONFIG, **self.options)

    def ready(self, client: CosyClient) -> CosyClient:
        """Return the view to call from now on, after uploading the voice where one is needed."""
        if not self.uploads:
            return client
        return client.with_options(voice=client.upload_voice(CLONE, "mine"))


CASES: Final = (
    ProtocolCase(protocol="batch", streams=False),
    ProtocolCase(protocol="openai", options={"voice": "中文女", "model": "cosyvoice2"}),
    ProtocolCase(protocol="runtime", options={"voice": "中文女"}),
    ProtocolCase(protocol="grpc", scheme="grpc", options={"voice": CLONE}),
    ProtocolCase(protocol="triton", streams=False),
    ProtocolCase(protocol="triton-grpc", scheme="grpc", streams=False, options={"voice": CLONE}),
    ProtocolCase(
        protocol="model-studio",
        scheme="ws",
        texts=True,
        options={"voice": "longanyang", "model": "cosyvoice-v3-flash", "sample_rate": 22050},
    ),
    ProtocolCase(protocol="model-studio-http", options={"voice": "longanyang", "model": "cosyvoice-v3-flash"}),
    ProtocolCase(protocol="lighttts", path="/lighttts", options={"voice": CLONE}),
    ProtocolCase(protocol="lighttts-ws", scheme="ws", texts=True, options={"voice": CLONE}),
    ProtocolCase(protocol="pai-eas", uploads=True),
    ProtocolCase(protocol="vllm-omni-ws", scheme="ws", texts=True, options={"voice": CLONE}),
)

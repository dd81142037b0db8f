"""Each protocol's usual client: the official SDK, or a bare stub, used as its documentation shows."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from cosyclient import emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "cosyvoice2-0.5b"


@dataclass(frozen=True)
class Service:
    """Hold the addresses of a service."""

    url: str
    grpc_url: str


class OfficialClient(ABC):
    """Synthesize one text a call, from many threads at once."""

    def __init__(self, service: Service, *, threads: int) -> None:
        self.service = service
        self.threads = threads

    @abstractmethod
    def synthesize(self, text: str) -> bytes:
        """Return the samples of *text*."""

    def pieces(self, text: str) -> Iterator[bytes] | None:
        """Return the samples of *text* as they arrive, or None where the client cannot."""
        del text
        return None

    @abstractmethod
    def close(self) -> None:
        """Release everything."""


class OpenAiSdk(OfficialClient):
    """Use the ``openai`` SDK: one client for all threads, its own retries and pool."""

    def __init__(self, service: Service, *, threads: int) -> None:
        super().__init__(service, threads=threads)
        from openai import OpenAI

        self._client = OpenAI(base_url=f"{service.url}/v1", api_key="none")

    def synthesize(self, text: str) -> bytes:
        """Return the samples of *text*."""
        reply = self._client.audio.speech.create(model=MODEL, voice="alloy", input=text, response_format="pcm")
        return bytes(reply.content)

    def pieces(self, text: str) -> Iterator[bytes]:
        """Yield the samples of *text* as they arrive."""
        with self._client.audio.speech.with_streaming_response.create(
            model=MODEL,
            voice="alloy",
            input=text,
            response_format="pcm",
            stream_format="audio",
            extra_body={"stream": True},
        ) as reply:
            yield from reply.iter_bytes()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class DashscopeSdk(OfficialClient):
    """Use the ``dashscope`` SDK with its object pool, sized as its documentation advises."""

    def __init__(self, service: Service, *, threads: int) -> None:
        super().__init__(service, threads=threads)
        import dashscope
        from dashscope.audio.tts_v2 import AudioFormat, SpeechSynthesizerObjectPool

        dashscope.api_key = "none"
        self._url = service.url.replace("http", "ws", 1) + "/api-ws/v1/inference"
        dashscope.base_websocket_api_url = self._url
        self._format = AudioFormat.PCM_24000HZ_MONO_16BIT
        self._pool = SpeechSynthesizerObjectPool(max_size=min(100, threads), url=self._url)

    def _borrow(self, callback: Any = None) -> Any:
        return self._pool.borrow_synthesizer(
            model="cosyvoice-v3-flash", voice="longanyang", format=self._format, callback=callback
        )

    def synthesize(self, text: str) -> bytes:
        """Return the samples of *text*."""
        synthesizer = self._borrow()
        audio = synthesizer.call(text)
        self._pool.return_synthesizer(synthesizer)
        return bytes(audio)

    def pieces(self, text: str) -> Iterator[bytes]:
        """Yield the samples of *text* as they arrive, handed over by the SDK's callback."""
        from dashscope.audio.tts_v2 import ResultCallback

        received: SimpleQueue[bytes | None] = SimpleQueue()

        class Listener(ResultCallback):  # type: ignore[misc, unused-ignore]
            def on_data(self, data: bytes) -> None:
                received.put(data)

            def on_complete(self) -> None:
                received.put(None)

            def on_error(self, message: str) -> None:  # noqa: ARG002 - the SDK calls it so
                received.put(None)

        synthesizer = self._borrow(Listener())
        synthesizer.streaming_call(text)
        threading.Thread(target=synthesizer.streaming_complete, daemon=True).start()
        while (piece := received.get()) is not None:
            yield piece
        self._pool.return_synthesizer(synthesizer)

    def close(self) -> None:
        """End the pool's thread."""
        self._pool.shutdown()  # type: ignore[no-untyped-call, unused-ignore]


class TritonHttp(OfficialClient):
    """Use ``tritonclient.http``, which needs a client per thread."""

    def __init__(self, service: Service, *, threads: int) -> None:
        super().__init__(service, threads=threads)
        self._local = threading.local()

    def synthesize(self, text: str) -> bytes:
        """Return the samples of *text*, converted to 16 bits as every caller has to."""
        import numpy as np
        from tritonclient import http

        if not hasattr(self._local, "client"):
            self._local.client = http.InferenceServerClient(self.service.url.removeprefix("http://"))
        wanted = http.InferInput("target_text", [1, 1], "BYTES")
        wanted.set_data_from_numpy(np.array([[text.encode()]], dtype=object))
        output = http.InferRequestedOutput("waveform", binary_data=True)
        wave = self._local.client.infer("cosyvoice2", [wanted], outputs=[output]).as_numpy("waveform")
        return bytes((wave * 32767).astype("<i2").tobytes())

    def close(self) -> None:
        """Each thread's client ends with it."""


class GrpcStub(OfficialClient):
    """Use a stub generated from the published proto, on one channel."""

    def __init__(self, service: Service, *, threads: int) -> None:
        super().__init__(service, threads=threads)
        import grpc

        self._messages, stubs = _generated()
        self._channel = grpc.insecure_channel(service.grpc_url.removeprefix("grpc://"))
        self._stub = stubs.CosyVoiceStub(self._channel)

    def synthesize(self, text: str) -> bytes:
        """Return the samples of *text*."""
        return b"".join(self.pieces(text))

    def pieces(self, text: str) -> Iterator[bytes]:
        """Yield the samples of *text* as they arrive."""
        request = self._messages.sftRequest(spk_id="中文女", tts_text=text)
        for reply in self._stub.Inference(self._messages.Request(sft_request=request)):
            yield reply.tts_audio

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def _generated() -> tuple[Any, Any]:
    """Return the modules that grpcio-tools generates from the proto."""
    source, made = Path(emulator.__file__).parent / "protos", tempfile.mkdtemp()
    options = [f"-I{source}", f"--python_out={made}", f"--grpc_python_out={made}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, "cosyvoice.proto"], check=True)
    sys.path.insert(0, made)
    return import_module("cosyvoice_pb2"), import_module("cosyvoice_pb2_grpc")


class RuntimeRequests(OfficialClient):
    """Do what the official runtime's own client does: ``requests`` with a form, one session for all threads."""

    def __init__(self, service: Service, *, threads: int) -> None:
        super().__init__(service, threads=threads)
        import requests
        from requests.adapters import HTTPAdapter

        self._session = requests.Session()
        self._session.trust_env = False
        self._session.mount(service.url, HTTPAdapter(pool_maxsize=threads, pool_block=True))

    def _post(self, text: str) -> Any:
        form = {"tts_text": text, "spk_id": "中文女"}
        return self._session.post(f"{self.service.url}/inference_sft", data=form, stream=True, timeout=30)

    def synthesize(self, text: str) -> bytes:
        """Return the samples of *text*."""
        return bytes(self._post(text).content)

    def pieces(self, text: str) -> Iterator[bytes]:
        """Yield the samples of *text* as they arrive."""
        yield from self._post(text).iter_content(None)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def first_piece(pieces: Iterator[bytes]) -> float:
    """Return the seconds until the first piece, and read the rest."""
    began = time.perf_counter()
    next(pieces)
    taken = time.perf_counter() - began
    for _ in pieces:
        pass
    return taken

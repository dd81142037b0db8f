"""Triton's own client against the emulator: it proves the face that proves ours."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

from cosyclient.emulator.speech.echo import echo_text
from tests.emulator.conftest import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosyclient.emulator import Emulator

__all__ = ["start"]

TEXT = "你好，世界。hello"
PATIENCE = 20.0


def samples(waveform: Any) -> bytes:
    """Return float samples as 16-bit ones."""
    found: bytes = (waveform.reshape(-1) * 32768).astype("<i2").tobytes()
    return found


def inputs(kind: Any, *, clone: bool = True) -> list[Any]:
    """Return the tensors as the official clients make them."""
    found = []
    recording = np.full((1, 16000), 0.1, np.float32)
    values = {
        "reference_wav": (recording, "FP32"),
        "reference_wav_len": (np.array([[16000]], np.int32), "INT32"),
        "reference_text": (np.array([["一段话"]], object), "BYTES"),
        "target_text": (np.array([[TEXT]], object), "BYTES"),
    }
    for name, (value, datatype) in values.items():
        if clone or name == "target_text":
            tensor = kind(name, list(value.shape), datatype)
            tensor.set_data_from_numpy(value)
            found.append(tensor)
    return found


@pytest.fixture
def http(start: Callable[..., Emulator]) -> Iterator[tuple[Any, Emulator]]:
    """Return the client over HTTP and its emulator."""
    emulator = start(engine="echo", grpc=True)
    client = over_http.InferenceServerClient(emulator.url.removeprefix("http://"))
    yield client, emulator
    client.close()


@pytest.fixture
def grpc(start: Callable[..., Emulator]) -> Iterator[tuple[Any, Emulator]]:
    """Return the client over gRPC and its emulator, with pieces of 0.1 s."""
    emulator = start(engine="echo", grpc=True, chunk_seconds=0.1)
    client = over_grpc.InferenceServerClient(emulator.grpc_url.removeprefix("grpc://"))
    yield client, emulator
    client.close()


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("clone", [True, False])
def test_inference_over_http(http: tuple[Any, Emulator], binary: bool, clone: bool) -> None:
    """With binary tensors and with plain JSON."""
    client, emulator = http
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("cosyvoice2")
    assert not client.is_model_ready("another")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    tensors = inputs(over_http.InferInput, clone=clone)
    outputs = [over_http.InferRequestedOutput("waveform", binary_data=binary)]
    result = client.infer("cosyvoice2", tensors, outputs=outputs, request_id="r-1")
    assert result.get_response()["id"] == "r-1"
    assert echo_text(samples(result.as_numpy("waveform"))) == TEXT
    (received,) = emulator.received()
    assert (received["text"], received["mode"]) == (TEXT, "zero_shot" if clone else "sft")


def test_refusals_over_http(http: tuple[Any, Emulator]) -> None:
    """In Triton's own words."""
    client, _ = http
    for model, words in (("cosyvoice2_dit", "decoupled transaction policy"), ("another", "unknown model")):
        with pytest.raises(InferenceServerException, match=words):
            client.infer(model, inputs(over_http.InferInput))
    with pytest.raises(InferenceServerException, match="expected input 'target_text'"):
        client.infer("cosyvoice2", inputs(over_http.InferInput)[:1])


def test_inference_over_grpc(grpc: tuple[Any, Emulator]) -> None:
    """One answer, where the build has one."""
    client, emulator = grpc
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("cosyvoice3")
    assert not client.is_model_ready("another")
    result = client.infer("cosyvoice3", inputs(over_grpc.InferInput), request_id="r-1")
    assert echo_text(samples(result.as_numpy("waveform"))) == TEXT
    assert emulator.received()[0]["model"] == "cosyvoice3"
    for model, words in (("cosyvoice2_dit", "decoupled transaction policy"), ("another", "unknown model")):
        with pytest.raises(InferenceServerException, match=words):
            client.infer(model, inputs(over_grpc.InferInput))


def streamed(client: Any, model: str, *, mark: bool = True) -> tuple[list[Any], list[str]]:
    """Return the answers of a stream, and the errors in it, until its end is marked or it ends."""
    arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
    client.start_stream(callback=lambda result, error: arrived.put((result, error)))
    try:
        client.async_stream_infer(model, inputs(over_grpc.InferInput), enable_empty_final_response=mark)
        results, errors = [], []
        while True:
            result, error = arrived.get(timeout=PATIENCE)
            if error is not None:
                errors.append(str(error))
                if model == "another":
                    break
                continue
            response = result.get_response()
            if response.outputs:
                results.append(result.as_numpy("waveform"))
            if response.parameters["triton_final_response"].bool_param:
                break
    finally:
        client.stop_stream()
    return results, errors


@pytest.mark.parametrize(("model", "pieces"), [("cosyvoice2_dit", 3), ("cosyvoice2", 1)])
def test_a_stream_ends_with_its_mark(grpc: tuple[Any, Emulator], model: str, pieces: int) -> None:
    """In pieces and an empty one with the mark, or whole and marked."""
    results, errors = streamed(grpc[0], model)
    assert (len(results), errors) == (pieces, [])
    assert echo_text(b"".join(map(samples, results))) == TEXT


def test_errors_in_a_stream(grpc: tuple[Any, Emulator]) -> None:
    """Amid the pieces, followed by the mark; or instead of any."""
    client, emulator = grpc
    emulator.inject("model_error", after=1)
    results, errors = streamed(client, "cosyvoice2_dit")
    assert len(results) == 1
    assert "CUDA error" in errors[0]
    results, errors = streamed(client, "another")
    assert (results, len(errors)) == ([], 1)

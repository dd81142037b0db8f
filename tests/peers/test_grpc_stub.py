"""A stub that grpcio-tools makes of the ``.proto``, as users of the official runtime have it, against the emulator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from cosyclient.emulator import protos
from cosyclient.emulator.speech.echo import echo_text
from tests.emulator.conftest import start

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.emulator import Emulator

__all__ = ["start"]

HERE = Path(protos.__file__).parent
TEXT = "你好，世界。hello"


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Return the generated modules."""
    made = tmp_path_factory.mktemp("stub")
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{HERE}", f"--python_out={made}"),
            *(f"--grpc_python_out={made}", "cosyvoice.proto"),
        ],
        check=True,
    )
    sys.path.insert(0, str(made))
    try:
        import cosyvoice_pb2  # type: ignore[import-not-found]
        import cosyvoice_pb2_grpc  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(made))
    return cosyvoice_pb2, cosyvoice_pb2_grpc


def test_every_mode_is_served(stub: tuple[Any, Any], start: Callable[..., Emulator]) -> None:
    """The official client's four."""
    messages, service = stub
    emulator = start(engine="echo", grpc=True)
    requests = {
        "sft": messages.Request(sft_request=messages.sftRequest(spk_id="中文女", tts_text=TEXT)),
        "zero_shot": messages.Request(
            zero_shot_request=messages.zeroshotRequest(tts_text=TEXT, prompt_text="一段话", prompt_audio=bytes(32000))
        ),
        "cross_lingual": messages.Request(
            cross_lingual_request=messages.crosslingualRequest(tts_text=TEXT, prompt_audio=bytes(32000))
        ),
        "instruct": messages.Request(
            instruct_request=messages.instructRequest(tts_text=TEXT, spk_id="中文女", instruct_text="轻声")
        ),
    }
    with grpc.insecure_channel(emulator.grpc_url.removeprefix("grpc://")) as channel:
        client = service.CosyVoiceStub(channel)
        for request in requests.values():
            assert echo_text(b"".join(reply.tts_audio for reply in client.Inference(request))) == TEXT
        with pytest.raises(grpc.RpcError) as caught:
            list(client.Inference(messages.Request()))
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
        assert caught.value.details().startswith("Exception iterating responses: ")
    assert [entry["mode"] for entry in emulator.received()] == [*requests, "instruct"]

"""The official client of the FastAPI runtime, as ``runtime/python/fastapi/client.py`` does it, against the emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import requests

from cosyclient.emulator import Emulator, running
from cosyclient.emulator.speech.echo import echo_text
from tests.protocols.wire_runtime import TRANSCRIPT, recording

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = "你好，我是通义千问语音合成大模型。"
FORMS: dict[str, tuple[dict[str, str], bool]] = {
    "sft": ({"tts_text": TEXT, "spk_id": "中文女"}, False),
    "zero_shot": ({"tts_text": TEXT, "prompt_text": TRANSCRIPT}, True),
    "cross_lingual": ({"tts_text": TEXT}, True),
    "instruct": ({"tts_text": TEXT, "spk_id": "中文男", "instruct_text": "A rebel leader.<|endofprompt|>"}, False),
    "instruct2": ({"tts_text": TEXT, "instruct_text": "用四川话说这句话<|endofprompt|>"}, True),
}


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    """Run an emulator whose audio tells its text, with the keep-alive of uvicorn's default."""
    with running(engine="echo", keep_alive=5.0) as emulator:
        yield emulator


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("mode", FORMS)
def test_requests_sends_a_form_by_either_method(service: Emulator, mode: str, method: str) -> None:
    """The body goes with GET as well; what comes back are bare samples, unlabelled."""
    payload, recorded = FORMS[mode]
    files = [("prompt_wav", ("prompt_wav", recording(), "application/octet-stream"))] if recorded else None
    with requests.request(method, f"{service.url}/inference_{mode}", data=payload, files=files, stream=True) as reply:
        assert reply.status_code == 200
        assert "content-type" not in reply.headers
        assert reply.headers["transfer-encoding"] == "chunked"
        data = b"".join(reply.iter_content(chunk_size=16000))
    assert np.frombuffer(data, dtype=np.int16).size == len(data) // 2
    assert echo_text(data) == TEXT
    received = service.received()[-1]
    assert (received["api"], received["mode"]) == ("runtime", mode)
    assert {received["voice"], received["instruct"], received["prompt_text"]} >= set(payload.values()) - {TEXT}


def test_httpx_sends_a_body_with_get(service: Emulator) -> None:
    """The other client in wide use, too."""
    request = httpx.Request("GET", f"{service.url}/inference_sft", data=FORMS["sft"][0])
    with httpx.Client(trust_env=False) as client:
        assert echo_text(client.send(request).content) == TEXT


def test_an_unknown_speaker_is_a_broken_reply(service: Emulator) -> None:
    """Status 200, and then the connection ends before the body does."""
    payload = {"tts_text": TEXT, "spk_id": "nobody"}
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="ended prematurely"):
        requests.post(f"{service.url}/inference_sft", data=payload)
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        httpx.post(f"{service.url}/inference_sft", data=payload, trust_env=False)


def test_what_fastapi_refuses_is_refused_in_its_words(service: Emulator) -> None:
    """Missing fields, JSON in place of a form, files in place of texts and texts in place of files."""
    missing = {"type": "missing", "loc": ["body", "spk_id"], "msg": "Field required", "input": None}

    def refused(mode: str, **more: Any) -> tuple[int, Any]:
        reply = requests.post(f"{service.url}/inference_{mode}", **more)
        return reply.status_code, reply.json()

    assert refused("sft", data={"tts_text": TEXT}) == (422, {"detail": [missing]})
    first = {**missing, "loc": ["body", "tts_text"]}
    assert refused("sft", json=FORMS["sft"][0]) == (422, {"detail": [first, missing]})
    status, body = refused("cross_lingual", data={"tts_text": TEXT, "prompt_wav": "a.wav"})
    assert (status, [each["type"] for each in body["detail"]]) == (422, ["value_error"])
    assert requests.put(f"{service.url}/inference_sft").json() == {"detail": "Method Not Allowed"}
    reply = requests.post(
        f"{service.url}/inference_cross_lingual", data={"tts_text": TEXT}, files={"prompt_wav": b"no recording"}
    )
    assert (reply.status_code, reply.text) == (500, "Internal Server Error")

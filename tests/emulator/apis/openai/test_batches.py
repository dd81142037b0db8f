"""Batches and voices of the servers called OpenAI-compatible, as a client's socket sees them."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient.emulator import echo_text
from tests.contracts.apis_openai import at
from tests.emulator.apis.openai.test_api import CLONE, MODEL, SPEECH, form, speech
from tests.emulator.wire import Answer, call

if TYPE_CHECKING:
    from tests.emulator.apis.openai.test_api import Start


@pytest.mark.parametrize(("dialect", "error"), [("vllm-omni", str), ("sglang-omni", dict)])
def test_a_batch_answers_each_of_its_items(start: Start, dialect: str, error: type) -> None:
    """In their order, invalid ones with their error."""
    emulator = at(start, dialect)
    items = [{"input": "a"}, {"input": " "}, {"input": "c", "response_format": "pcm"}]
    document = {"items": items, "model": MODEL, **CLONE}
    answer = call(emulator.url, "POST", f"{SPEECH}/batch", json.dumps(document).encode())
    body = answer.json()
    assert (body["total"], body["succeeded"], body["failed"]) == (3, 2, 1)
    assert body["id"].startswith("speech-batch-")
    first, second, third = body["results"]
    assert echo_text(base64.b64decode(first["audio_data"])) == "a"
    assert echo_text(base64.b64decode(third["audio_data"])) == "c"
    assert [first["media_type"], third["media_type"]] == ["audio/wav", "audio/pcm"]
    assert isinstance(second["error"], error)
    assert [entry["text"] for entry in emulator.received()] == ["a", "c"]
    assert emulator.counters().batch_sizes == {3: 1}
    for wrong in ([], [{"input": "a"}] * 33, "a"):
        assert call(emulator.url, "POST", f"{SPEECH}/batch", json.dumps({"items": wrong}).encode()).status == 400


def test_the_form_of_a_batch_is_checked_as_a_whole(start: Start) -> None:
    """By vLLM-Omni; the rest is checked item by item. SGLang-Omni checks both item by item."""
    items = [{"input": "a"}, {"input": "b", "voice": "default"}, {"input": "c", "sample_rate": 24000}]
    for dialect, formless in (("vllm-omni", 400), ("sglang-omni", 200)):
        emulator = at(start, dialect)

        def ask(url: str, *more: Any, **shared: object) -> Answer:
            return call(url, "POST", f"{SPEECH}/batch", json.dumps({"items": [*items, *more], **shared}).encode())

        for wrong in ({}, {"input": 7}, {"input": "d", "speed": 9}, {"input": "d", "response_format": "midi"}):
            assert ask(emulator.url, wrong, **CLONE).status == formless, wrong
        results = ask(emulator.url).json()["results"]
        if dialect == "vllm-omni":
            assert "requires 'ref_audio'" in results[0]["error"]
            assert "Unknown voice 'default'" in results[1]["error"]
            assert results[2]["error"] == "sample_rate is not supported by the current TTS model"
        else:
            assert results[0]["error"]["param"] == "items.0.ref_audio"
            assert ask(emulator.url, stream=True, **CLONE).status == 400


def test_items_of_a_batch_meet_faults(start: Start) -> None:
    """Those of the batch protocol."""
    emulator = at(start, "vllm-omni")
    document = json.dumps({"items": [{"input": "a"}, {"input": "b"}], **CLONE}).encode()
    emulator.inject("failed_items", indices=[1], code="internal")
    results = call(emulator.url, "POST", f"{SPEECH}/batch", document).json()["results"]
    assert [result["status"] for result in results] == ["success", "error"]
    emulator.inject("wrong_count")
    assert call(emulator.url, "POST", f"{SPEECH}/batch", document).json()["total"] == 1


def test_voices_are_uploaded_listed_and_deleted(start: Start) -> None:
    """By vLLM-Omni's paths, and by SiliconFlow's."""
    emulator = at(start, "vllm-omni")
    assert form(emulator, "/v1/audio/voices", {"name": "Mine"}, "audio_sample").status == 400
    assert form(emulator, "/v1/audio/voices", {"name": "a/b", "consent": "y"}, "audio_sample").status == 400
    added = form(emulator, "/v1/audio/voices", {"name": "Mine", "consent": "y", "ref_text": "t"}, "audio_sample")
    assert added.json()["success"] is True
    listed = call(emulator.url, "GET", "/v1/audio/voices").json()
    assert listed["voices"] == ["default", "mine"]
    assert (listed["uploaded_voices"][0]["name"], listed["uploaded_voices"][0]["ref_text"]) == ("Mine", "t")
    assert speech(emulator, voice="mine").status == 200
    assert call(emulator.url, "DELETE", "/v1/audio/voices/mine").json()["success"] is True
    gone = call(emulator.url, "DELETE", "/v1/audio/voices/mine")
    assert (gone.status, gone.json()) == (404, {"success": False, "error": "Voice 'mine' not found"})
    cloud = at(start, "siliconflow")
    fields = {"customName": "me", "text": "t", "model": "FunAudioLLM/CosyVoice2-0.5B"}
    uri = form(cloud, "/v1/uploads/audio/voice", fields, "file").json()["uri"]
    assert uri.startswith("speech:me:")
    rows = call(cloud.url, "GET", "/v1/audio/voice/list").json()["result"]
    assert [(row["customName"], row["uri"]) for row in rows] == [("me", uri)]
    assert speech(cloud, voice=uri, model="FunAudioLLM/CosyVoice2-0.5B", response_format="wav").status == 200
    body = json.dumps({"uri": uri}).encode()
    assert call(cloud.url, "POST", "/v1/audio/voice/deletions", body).json()["success"] is True
    assert call(cloud.url, "GET", "/v1/audio/voice/list").json() == {"result": []}
    assert call(cloud.url, "GET", "/v1/models").json()["data"][0]["id"] == "FunAudioLLM/CosyVoice2-0.5B"
    assert len(call(at(start, "vox-box").url, "GET", "/v1/voices").json()["voices"]) == 7
    owners = {each["owned_by"] for each in call(emulator.url, "GET", "/v1/models").json()["data"]}
    assert owners == {"vllm"}

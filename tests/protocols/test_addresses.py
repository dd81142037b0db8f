"""Addresses as people paste them: a protocol takes its own route off, and a whole route may tell which one it is."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cosyclient import BadUtterance, ConfigurationError, CosyClient, Voice
from cosyclient.config import WireConfig
from cosyclient.config.resolve import _KEY_VARIABLES
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.protocols.addresses import guess, without_route
from cosyclient.protocols.registry import ENTRIES, every_name, protocol_for
from cosyclient.testing import ScriptedTransport
from cosyclient.wire import join_url
from tests.protocols import wire_runtime
from tests.protocols.wire_runtime import recording
from tests.support.service import answer

NAMED: dict[str, Any] = {"voice": "v", "model": "m"}


@pytest.mark.parametrize(
    ("url", "protocol", "base"),
    [
        ("http://h/batch", "batch", "http://h"),
        ("http://h/tts/batch/", "batch", "http://h/tts"),
        ("http://h/v1", "batch", "http://h/v1"),
        ("http://h/api", "batch", "http://h/api"),
        ("http://h/batches", "batch", "http://h/batches"),
        ("http://h:8091/v1/audio/speech", "openai", "http://h:8091"),
        ("http://h/proxy/v1/audio/speech", "openai:xinference", "http://h/proxy"),
        ("http://h/v1/audio/speech/batch", "openai:vllm-omni", "http://h"),
        ("http://h/v1", "openai", "http://h/v1"),
        ("http://h/v1/models", "openai", "http://h"),
        ("http://h/audio/speech", "openai:triton-bridge", "http://h"),
        ("https://dashscope.aliyuncs.com/api/v1", "model-studio-http", "https://dashscope.aliyuncs.com"),
        (
            "https://dashscope.aliyuncs.com/api/v1/services/audio/tts/SpeechSynthesizer",
            "model-studio-http",
            "https://dashscope.aliyuncs.com",
        ),
        ("wss://dashscope.aliyuncs.com/api-ws/v1/inference/", "model-studio", "wss://dashscope.aliyuncs.com"),
        ("http://x.pai-eas.aliyuncs.com/api/predict/s/api/v1/audio/speech", "pai-eas",
         "http://x.pai-eas.aliyuncs.com/api/predict/s"),
        ("http://x/api/v1", "pai-eas", "http://x"),
        ("http://h:50000/inference_sft", "runtime", "http://h:50000"),
        ("http://h:50000/inference_zero_shot", "runtime:cosyvoice3", "http://h:50000"),
        ("http://h/inference_zero_shot", "lighttts", "http://h"),
        ("ws://h/inference_zero_shot_bistream", "lighttts-ws", "ws://h"),
        ("ws://h/v1/audio/speech/stream", "vllm-omni-ws", "ws://h"),
        ("ws://h/v1", "vllm-omni-ws", "ws://h"),
        ("grpc://h:50000/cosyvoice.CosyVoice/Inference", "grpc", "grpc://h:50000"),
        ("http://h:8000/v2/models/cosyvoice3/infer", "triton", "http://h:8000"),
        ("http://h:8000/t/v2/models/a%20b/versions/1/infer", "triton", "http://h:8000/t"),
        ("http://h:8000/v2", "triton", "http://h:8000"),
        ("http://[::1]:8000/v2/models/x", "triton", "http://[::1]:8000"),
    ],
)  # fmt: skip
def test_a_route_is_cut_off_by_its_own_protocol_only(url: str, protocol: str, base: str) -> None:
    """And only by that: to any other it may be where the service is mounted."""
    assert without_route(url, protocol).url == base
    others = {"lighttts-ws", "grpc"} - {protocol}
    assert {without_route(url, other).url for other in others} == {url}
    assert without_route(base, protocol).url == base


@pytest.mark.parametrize(
    ("url", "model"),
    [
        ("http://h/v2/models/cosyvoice3/infer", "cosyvoice3"),
        ("http://h/a/b/v2/models/a%20b/versions/1/infer", "a b"),
        ("http://h/v2/models/x", "x"),
        ("http://h/v2", None),
    ],
)
def test_a_route_of_triton_names_its_model(url: str, model: str | None) -> None:
    """Which is asked for then, unless another is."""
    assert without_route(url, "triton").model == model


def test_a_pasted_route_of_triton_is_requested_as_it_is() -> None:
    """The model goes along; one that is named wins."""
    voice = wire_runtime.CLONE
    for model in (None, "cosyvoice2"):
        transport = ScriptedTransport(lambda _: RuntimeError("seen"))
        url = "http://h/v2/models/cosyvoice3/versions/1/infer"
        with (
            CosyClient(url, transport=transport, voice=voice, model=model) as cosy,
            pytest.raises(Exception, match="."),
        ):
            cosy.synthesize("hello")
        assert transport.requests[0].path == f"/v2/models/{model or 'cosyvoice3'}/infer"
        assert "http://h triton " in repr(cosy)


@pytest.mark.parametrize(
    ("url", "protocol"),
    [
        ("http://h", "batch"),
        ("http://h/v1", "batch"),
        ("http://h/api/v1", "batch"),
        ("http://h/batch", "batch"),
        ("http://h/inference_zero_shot", "batch"),
        ("http://h/v1/audio/speech", "openai"),
        ("http://h/audio/speech", "openai:triton-bridge"),
        ("http://h/api/v1/audio/speech", "pai-eas"),
        ("http://h/inference_instruct2", "runtime"),
        ("http://h/v2/models/x/infer", "triton"),
        ("ws://h/v1/audio/speech/stream", "vllm-omni-ws"),
        ("wss://h/inference_zero_shot_bistream", "lighttts-ws"),
        ("grpc://h", "grpc"),
        ("grpc://h/inference.GRPCInferenceService/ModelStreamInfer", "triton-grpc"),
        ("https://api.openai.com/v1/audio/speech", "openai:openai"),
        ("https://dashscope.aliyuncs.com/api/v1", "model-studio-http"),
        ("wss://dashscope.aliyuncs.com/api-ws/v1/inference", "model-studio"),
    ],
)
def test_a_whole_route_identifies_the_protocol(url: str, protocol: str) -> None:
    """Where it is one protocol's alone; a base tells nothing."""
    assert guess(url) == protocol


def test_the_path_of_every_request_is_a_declared_route() -> None:
    """And none is missing: what a protocol asks for is taken off where it is pasted."""
    assert all(entry.routes for entry in ENTRIES.values() if not entry.dialect)
    for name in every_name():
        protocol = protocol_for(name, WireConfig())
        can = protocol.capabilities
        own = "v" if can.voice_names else None
        voice = own if "named" in can.voices else wire_runtime.CLONE
        settings = VoiceSettings(
            voice=voice, model="m" if can.model and not name.startswith("triton") else None, format=can.formats[0]
        )
        path = protocol.encode([Utterance("hello", settings)], key="k").path
        assert without_route(join_url("http://h/base", path), name).url == "http://h/base", name


@pytest.mark.parametrize(
    "url",
    ["http://h/\u00a0x", "http://exa mple/", "http://\u2028/", "http://a..b/", f"http://{'a' * 64}/", "http://[::1/"],
)
def test_an_invalid_host_is_refused_when_the_client_is_made(url: str) -> None:
    """Not as a foreign error at the first call."""
    with pytest.raises(ConfigurationError, match="base_url"):
        CosyClient(url, transport=ScriptedTransport(answer))


@pytest.mark.parametrize("ending", [ending for ending, _ in _KEY_VARIABLES])
def test_every_host_with_a_known_key_has_a_known_protocol(ending: str) -> None:
    """The two tables of hosts know the same ones."""
    assert guess(f"https://{'a' if ending.startswith('.') else ''}{ending}") != "batch"


@pytest.mark.parametrize(
    ("url", "protocol", "says"),
    [
        ("http://h", "triton-grpc", "spoken over grpc, so it must begin with grpc:// or grpcs://, not http://"),
        ("ws://h", "batch", "spoken over http, so it must begin with http:// or https://, not ws://"),
        ("http://h", "OpenAI", "did you mean openai?"),
        ("http://h", "opnai", "did you mean openai?"),
    ],
)
def test_errors_name_the_scheme_or_the_protocol_that_was_meant(url: str, protocol: str, says: str) -> None:
    """A scheme is shown as it is to be written, and a name is known in any case of its letters."""
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        CosyClient(url, protocol=protocol)


def test_errors_name_the_protocols_that_can_serve_the_setting() -> None:
    """Of the one that failed: what else a call asks for may need another change."""
    with CosyClient("http://h") as cosy:
        for options in ({"voice": "v"}, {}, {"seed": 1}):
            with pytest.raises(BadUtterance, match="protocols that can do it: model-studio, .*, vllm-omni-ws$"):
                cosy.submit("One.", words=True, **options)
        with pytest.raises(BadUtterance, match="protocols that can do it: grpc, .*openai, .*vllm-omni-ws$") as caught:
            cosy.stream("One.")
        assert "batch" not in str(caught.value).partition("do it: ")[2]
        with pytest.raises(BadUtterance, match="use stream; protocols that can do it: lighttts-ws, .*model-studio, "):
            cosy.stream_text(["One."])
        with pytest.raises(BadUtterance, match="cannot list them; .*; protocols that can do it: .*openai:vllm-omni"):
            cosy.voices()
        with pytest.raises(BadUtterance, match="keeps no recordings; protocols that can do it: .*openai:siliconflow"):
            cosy.upload_voice(Voice.clone(recording(), "x"), "me")


def test_errors_of_what_another_protocol_would_not_mend_name_none() -> None:
    """A forgotten option, and members of the service's own."""
    with CosyClient("http://h", protocol="openai") as cosy:
        with pytest.raises(BadUtterance, match="pass voice=…$"):
            cosy.submit("One.", model="m")
        with pytest.raises(BadUtterance, match="pass voice= instead$"):
            cosy.submit("One.", model="m", voice="v", extra={"voice": "other"})

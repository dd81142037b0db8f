"""The gRPC APIs over a bare channel, and the origin of their messages."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from tritonclient.grpc import service_pb2

from cosyclient.emulator import EmulatorError, Settings, extra, protos
from cosyclient.emulator.speech.echo import echo_text
from tests.contracts.test_apis import until
from tests.emulator.wire import call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosyclient.emulator import Emulator

HERE = Path(protos.__file__).parent
END_OF_PROMPT = "<|endofprompt|>"
RUNTIME = "/cosyvoice.CosyVoice/Inference"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
TIMEOUT = 20.0
RAISED = "Exception iterating responses: "
_Request: Any = protos.message("cosyvoice.Request")
_Response: Any = protos.message("cosyvoice.Response")


@pytest.fixture
def connected(start: Callable[..., Emulator]) -> Iterator[Callable[..., tuple[Emulator, grpc.Channel]]]:
    """Start an emulator with these options, and connect to it."""
    channels = []

    def connect(**options: Any) -> tuple[Emulator, grpc.Channel]:
        emulator = start(**{"engine": "echo", "grpc": True, **options})
        channels.append(grpc.insecure_channel(emulator.grpc_url.removeprefix("grpc://")))
        return emulator, channels[-1]

    yield connect
    for channel in channels:
        channel.close()


def sft(text: str = "hello", voice: str = "中文女") -> bytes:
    """Return a request of the runtime."""
    made: bytes = _Request(sft_request={"spk_id": voice, "tts_text": text}).SerializeToString()
    return made


def tensors(model: str, text: str, transcript: str = "", level: float = 0.0) -> bytes:
    """Return a request of Triton."""
    request = service_pb2.ModelInferRequest(model_name=model)
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    given = [("target_text", "BYTES", [1, 1], text.encode())]
    if transcript:
        given += [
            ("reference_text", "BYTES", [1, 1], transcript.encode()),
            ("reference_wav", "FP32", [1, 100], struct.pack("<100f", *[level] * 100)),
        ]
    for name, datatype, shape, raw in given:
        request.inputs.add(name=name, datatype=datatype).shape.extend(shape)
        request.raw_input_contents.append(struct.pack("<I", len(raw)) + raw if datatype == "BYTES" else raw)
    made: bytes = request.SerializeToString()
    return made


def ended(reply: Any) -> tuple[int, str, str]:
    """Return how many messages came before a call failed, and with what."""
    arrived: list[bytes] = []
    with pytest.raises(grpc.RpcError) as caught:
        arrived.extend(reply)
    return len(arrived), caught.value.code().name, caught.value.details()


def test_a_call_beyond_the_limit_is_refused(connected: Callable[..., Any]) -> None:
    """While the others go on; the next is admitted once one of them ends."""
    emulator, channel = connected(max_conc=2)
    method = channel.unary_stream(RUNTIME)
    emulator.inject("hang", count=2)
    hanging = [method(sft()) for _ in range(2)]
    until(lambda: emulator.counters().faults.get("hang") == 2)
    assert ended(method(sft())) == (0, "RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!")
    assert emulator.counters().replies == {429: 1}
    for each in hanging:
        each.cancel()
    until(lambda: emulator.counters().in_flight == 0)
    (message,) = method(sft())
    assert echo_text(_Response.FromString(message).tts_audio) == "hello"


def test_a_message_per_segment(connected: Callable[..., Any]) -> None:
    """Whose audio together is the text's; text of punctuation only has none, and that is no error."""
    _, channel = connected()
    text = f"{'很长的一句话' * 12}。{'还有一句' * 18}。"
    messages = list(channel.unary_stream(RUNTIME)(sft(text)))
    assert len(messages) == 2
    assert echo_text(b"".join(_Response.FromString(each).tts_audio for each in messages)) == text
    assert list(channel.unary_stream(RUNTIME)(sft("。！"))) == []


@pytest.mark.parametrize(
    ("fault", "params", "expected"),
    [
        ("model_error", {"after": 0}, (0, "UNKNOWN", f"{RAISED}CUDA error")),
        ("model_error", {"after": 1}, (1, "UNKNOWN", f"{RAISED}CUDA error")),
        ("cut", {}, (1, "UNAVAILABLE", "Socket closed")),
        ("reset", {}, (0, "UNAVAILABLE", "Socket closed")),
        ("too_large", {}, (0, "RESOURCE_EXHAUSTED", "Received message larger than max (8388608 vs. 4194304)")),
        ("error", {"status": 403}, (0, "PERMISSION_DENIED", "a fault was asked for")),
        ("html", {}, (0, "UNKNOWN", "Received http2 header with status: 502")),
    ],
)
def test_faults_end_a_call(
    connected: Callable[..., Any], fault: str, params: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    """With the status, and after as many messages, as asked for; once."""
    emulator, channel = connected()
    emulator.inject(fault, **params)
    count, code, details = ended(channel.unary_stream(RUNTIME)(sft()))
    assert (count, code) == expected[:2]
    assert details.startswith(expected[2])
    assert emulator.counters().faults == {fault: 1}
    assert list(channel.unary_stream(RUNTIME)(sft()))


def test_the_runtime_refuses_what_breaks_its_rules(connected: Callable[..., Any]) -> None:
    """Unknown speakers as its model does, large requests as grpcio does, a missing key as a gateway does."""
    _, channel = connected()
    assert ended(channel.unary_stream(RUNTIME)(sft(voice="nobody"))) == (
        0,
        "UNKNOWN",
        f"{RAISED}'nobody'",
    )
    large = ended(channel.unary_stream(RUNTIME)(sft("x" * (5 << 20))))
    assert large[1] == "RESOURCE_EXHAUSTED"
    assert large[2].startswith("Received message larger than max (5242901 vs")
    _, guarded = connected(api_key="k")
    assert ended(guarded.unary_stream(RUNTIME)(sft()))[1] == "UNAUTHENTICATED"
    assert list(guarded.unary_stream(RUNTIME)(sft(), metadata=(("authorization", "Bearer k"),)))


def test_the_runtime_checks_recordings_and_messages(connected: Callable[..., Any]) -> None:
    """By numpy, by its front end and by grpcio, each with its message; CosyVoice3 requires its mark."""
    _, channel = connected(runtime_model="cosyvoice3")
    for audio, text, details in (
        (b"abc", "hi", f"{RAISED}buffer size must be a multiple of element size"),
        (
            bytes(2 * 16000 * 31),
            f"{END_OF_PROMPT}hi",
            f"{RAISED}do not support extract speech token",
        ),
        (bytes(32000), "hi", f"{RAISED}{END_OF_PROMPT} not detected in CosyVoice3"),
    ):
        asked = _Request(cross_lingual_request={"tts_text": text, "prompt_audio": audio}).SerializeToString()
        count, code, details_of_end = ended(channel.unary_stream(RUNTIME)(asked))
        assert (count, code, details_of_end[: len(details)]) == (0, "UNKNOWN", details)
    asked = _Request(cross_lingual_request={"tts_text": f"{END_OF_PROMPT}hi", "prompt_audio": bytes(32000)})
    assert list(channel.unary_stream(RUNTIME)(asked.SerializeToString()))
    assert ended(channel.unary_stream(RUNTIME)(b"\xff\xff")) == (0, "INTERNAL", "Exception deserializing request!")


def test_tritons_models_stop_after_so_many_tokens(connected: Callable[..., Any]) -> None:
    """25 a second, even within the text; over HTTP, too."""
    emulator, channel = connected(engine="tone", speech_tokens=50, decoupled=True)
    text = "好" * 100
    sizes = []
    for message in channel.stream_stream(STREAM)(iter([tensors("cosyvoice2", text)])):
        reply = service_pb2.ModelStreamInferResponse.FromString(message).infer_response
        sizes += [len(raw) // 4 for raw in reply.raw_output_contents]
    assert sizes == [24000, 24000]
    refused = call(emulator.url, "POST", "/v2/models/cosyvoice2/infer", b"{}")
    assert refused.status == 501
    assert "decoupled transaction policy" in refused.json()["error"]


def test_tritons_models_cache_recordings_by_transcript(connected: Callable[..., Any]) -> None:
    """A second recording with the same transcript gives the first voice, until the emulator is reset."""
    emulator, channel = connected()

    def digest(transcript: str, level: float) -> Any:
        list(channel.stream_stream(STREAM)(iter([tensors("cosyvoice3", "hello", transcript, level)])))
        return emulator.received()[-1]["prompt_sha256"]

    first = digest("一段话", 0.1)
    assert digest("一段话", 0.2) == first
    assert digest("一段话 ", 0.2) != first
    emulator.reset()
    assert digest("一段话", 0.2) != first


def test_the_descriptions_are_those_of_the_proto_files(tmp_path: Path) -> None:
    """Made anew, by whatever protoc is installed."""
    files = ["cosyvoice.proto", "grpc_predict_v2.proto"]
    made = tmp_path / "descriptors.bin"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{HERE}", f"--descriptor_set_out={made}", *files]
    subprocess.run(command, check=True)
    kept, anew = (
        descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()) for path in (HERE / "descriptors.bin", made)
    )
    assert kept == anew


def test_the_fields_are_tritons() -> None:
    """Names, numbers and types, as the client that comes with it has them."""
    theirs = descriptor_pb2.FileDescriptorProto()
    service_pb2.DESCRIPTOR.CopyToProto(theirs)

    def shapes(messages: Any, prefix: str = "") -> dict[tuple[str, str], tuple[int, int, int]]:
        found = {}
        for each in messages:
            for field in each.field:
                found[prefix + each.name, field.name] = (field.number, field.type, field.label)
            found |= shapes(each.nested_type, f"{prefix}{each.name}.")
        return found

    ours = descriptor_pb2.FileDescriptorSet.FromString((HERE / "descriptors.bin").read_bytes()).file[1]
    known = shapes(theirs.message_type)
    assert len(shapes(ours.message_type)) > 40
    for name, shape in shapes(ours.message_type).items():
        assert known[name] == shape, name
    methods = {method.name: method for service in theirs.service for method in service.method}
    for method in ours.service[0].method:
        assert methods[method.name] == method


def test_a_missing_package_for_grpc_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only when it is asked for."""
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name in ("grpc", "google.protobuf") else object())
    extra.require_extra()
    with pytest.raises(EmulatorError, match=r"needs grpc, google\.protobuf: .*'\.\[emulator\]'"):
        extra.require_extra("grpc", "google.protobuf")


def test_without_the_option_there_is_no_address(start: Callable[..., Emulator]) -> None:
    """Nothing is imported for it either."""
    assert start().grpc_url == ""
    assert not Settings().grpc

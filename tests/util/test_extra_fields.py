"""What callers add: header fields that reach the service and break nothing, members that protocols do not know."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyclient import BadUtterance, ConfigurationError, CosyClient, NotFound, SpeechOptions
from cosyclient.cli import main
from cosyclient.config import WireConfig
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.protocols.registry import check_supported, protocol_for
from cosyclient.testing import scripted_client
from cosyclient.util.extra_fields import Extra, Headers
from cosyclient.voices import Voice
from cosyclient.wire import WireRequest
from tests.support.hostile import answers, hostile, reply
from tests.support.service import answer, body_of, item
from tests.transports import grpc_wire, websocket_wire, wire

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.hostile import ServedConnection


def speaks(connection: ServedConnection) -> None:
    """Answer every batch."""
    while (received := connection.request()) is not None:
        texts = json.loads(received.body)["texts"]
        body = json.dumps({"results": [item(index, text) for index, text in enumerate(texts)]}).encode()
        connection.send(reply(body, headers=("Content-Type: application/json",)))


# --- header fields ---


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"X-A\r\nX-B": "1"}, "is no valid"),
        ({"X A": "1"}, "is no valid"),
        ({"": "1"}, "is no valid"),
        ({"X:": "1"}, "is no valid"),
        ({":path": "/"}, "is no valid"),
        ({"Х-Cyrillic": "1"}, "is no valid"),
        ({5: "1"}, "is no valid"),
        ({"X" * 201: "1"}, "is no valid"),
        ({"X-A": "secret\r\nX-B: 2"}, "printable ASCII"),
        ({"X-A": "secret\n"}, "printable ASCII"),
        ({"X-A": "secret\0"}, "printable ASCII"),
        ({"X-A": " secret"}, "printable ASCII"),
        ({"X-A": "sécret"}, "printable ASCII"),
        ({"X-A": "secret\ud800"}, "printable ASCII"),
        ({"X-A": b"secret"}, "must be a str, got bytes"),
        ({"X-A": None}, "must be a str"),
        ({"X-A": "secret" * 20_000}, "120000 characters"),
        ({"X-A": "1", "x-a": "2"}, "twice"),
        ({f"X-{number}": "1" for number in range(65)}, "at most 64"),
        ([("X-A", "1")], "must be a mapping"),
        ("X-A: 1", "must be a mapping"),
        *(
            ({name: "1"}, f"{name} delimits the request")
            for name in ("Content-Length", "HOST", "transfer-encoding", "Connection", "TE", "Trailer", "Upgrade")
        ),
        *(
            ({name: "1"}, f"{name} is set by the protocol")
            for name in ("Content-Type", "Accept", "Idempotency-Key", "Sec-WebSocket-Key", "grpc-timeout")
        ),
    ],
)  # fmt: skip
def test_an_invalid_header_field_is_refused_before_anything_is_sent(given: Any, says: str) -> None:
    """For a client when it is made, for a call before anything is sent; no value is ever shown."""
    with pytest.raises(ConfigurationError, match=f"headers: .*{says}") as caught:
        CosyClient("http://tts.test", headers=given)
    assert "ecret" not in str(caught.value)
    client, transport = scripted_client(answer)
    with pytest.raises(BadUtterance, match=f"headers: .*{says}"):
        client.synthesize("hello", headers=given)
    assert transport.requests == []
    client.close()


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
def test_no_header_value_contains_another_field(said: dict[str, str]) -> None:
    """What is accepted is one line each, whatever it is made of."""
    try:
        fields = Headers(said).fields()
    except BadUtterance:
        return
    for name, value in fields:
        line = f"{name}: {value}"
        assert line.isascii()
        assert not set("\r\n\0") & set(line)
        assert ":" not in name


def test_headers_of_client_and_call_reach_the_service() -> None:
    """A call's override the client's in any case of letters, both the library's own; each field is sent once."""
    with (
        hostile(speaks) as service,
        CosyClient(service.url, api_key="key", headers={"X-Tenant": "a", "X-Both": "client"}) as cosy,
    ):
        cosy.synthesize("one")
        cosy.synthesize("two", headers={"x-both": "call", "Authorization": "Basic abc", "User-Agent": "mine/1"})
        cosy.with_options(headers={"X-View": "v"}).synthesize("three")
        cosy.synthesize("four", headers=None)
        one, two, three, four = service.requests
    assert (one.headers["x-tenant"], one.headers["x-both"], one.headers["authorization"]) == (
        "a",
        "client",
        "Bearer key",
    )
    assert (two.headers["x-tenant"], two.headers["x-both"]) == ("a", "call")
    assert (two.headers["authorization"], two.headers["user-agent"]) == ("Basic abc", "mine/1")
    assert (three.headers["x-tenant"], three.headers["x-view"]) == ("a", "v")
    assert "x-tenant" not in four.headers


def test_an_httpx_transport_sends_the_same_headers() -> None:
    """Through `httpx.MockTransport`, as users test."""
    import httpx

    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"results": [item(0, "hello")]})

    with CosyClient("http://tts.test", api_key="key", transport=httpx.MockTransport(handler)) as cosy:
        cosy.synthesize("hello", headers={"Authorization": "Basic abc", "X-A": "1"})
    assert asked[0].headers.get_list("authorization") == ["Basic abc"]
    assert asked[0].headers["x-a"] == "1"


def test_the_list_of_voices_is_requested_with_the_same_headers() -> None:
    """A gateway wants to know of every request who makes it."""
    client, transport = scripted_client(
        lambda _: RuntimeError("seen"), protocol="openai:vllm-omni", headers={"X-Tenant": "a"}
    )
    for ask in (client.voices, lambda: client.upload_voice(Voice("x"), "y", consent="c")):
        with pytest.raises(Exception):  # noqa: B017, PT011 - what it was answered with is not looked at
            ask()
    assert ("X-Tenant", "a") in transport.requests[0].headers
    client.close()


def test_a_websocket_is_opened_with_the_headers_and_shared_only_with_equal_ones() -> None:
    """The handshake is all a WebSocket has of headers: another's must not speak under them."""
    with hostile(websocket_wire.answers_each(b"audio")) as service:
        transport = websocket_wire.made(service)
        plain = websocket_wire.session_request()
        tenant = plain.with_headers(Headers({"X-Tenant": "a", "Authorization": "Basic abc"}))
        for request in (plain, tenant, tenant, plain):
            assert websocket_wire.audio_of(transport, request) == b"audio"
        shaken = [seen.headers for seen in service.requests]
        transport.close()
    assert [headers.get("X-Tenant") for headers in shaken] == [None, "a", None]
    assert shaken[1]["Authorization"] == "Basic abc"


def test_grpc_sends_them_as_metadata() -> None:
    """In lower case, over our own."""
    with grpc_wire.serving() as (url, script):
        transport = grpc_wire.made(url)
        request = WireRequest(method="POST", path="/script.Script/echo", headers=(), body=b"hello")
        under = request.with_headers(Headers({"X-Tenant": "a", "Authorization": "Basic abc"}))
        reply = transport.send(under, deadline=wire.soon(), read_timeout=20.0)
        list(reply.chunks())
        transport.close()
    (metadata,) = script.metadata
    assert metadata["x-tenant"] == "a"
    assert metadata["authorization"] == "Basic abc"


@pytest.mark.parametrize("name", ["trace-bin", "User-Agent"])
def test_headers_that_are_no_valid_metadata_are_refused(name: str) -> None:
    """Binary metadata is bytes, and grpcio names itself."""
    grpc = protocol_for("grpc", WireConfig())
    with pytest.raises(BadUtterance, match=f"headers: {name} cannot be sent as metadata"):
        check_supported(grpc, VoiceSettings(voice="v", headers={name: "1"}))
    check_supported(protocol_for("batch", WireConfig()), VoiceSettings(headers={name: "1"}))


def test_header_values_appear_in_no_repr_and_no_error() -> None:
    """In the reprs of all that holds them, and in their keys."""
    client, _ = scripted_client(answer, headers={"X-Token": "s3cret"})
    settings = VoiceSettings(headers={"X-Token": "s3cret"}, extra={"note": "s3cret"})
    shown = [repr(client), repr(settings), str(settings.headers), settings.key.split("note")[0], repr(settings.extra)]
    assert not any("s3cret" in each for each in shown)
    assert "X-Token" in repr(settings)
    client.close()


def test_no_frame_of_the_library_shows_a_header_value() -> None:
    """Error trackers collect the locals of every frame."""
    secret = "s3cret-value-of-a-header"
    with hostile(answers(reply(status="404 Not Found"))) as service:
        clients = [CosyClient(service.url, headers={"X-Token": secret}), CosyClient(service.url)]
        of_calls: list[SpeechOptions] = [{}, {"headers": {"X-Token": secret}}]
        for client, options in zip(clients, of_calls, strict=True):
            with client, pytest.raises(NotFound) as caught:
                client.synthesize("hello", **options)
            told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
            ours = [
                frame for frame in told.stack if "/cosyclient/" in frame.filename and "/tests/" not in frame.filename
            ]
            assert ours
            assert not [frame for frame in ours if secret in str(frame.locals)]


# --- requests that differ in them ---


def test_texts_with_different_headers_or_extra_are_sent_apart() -> None:
    """Neither a request nor a speech is shared by texts whose headers or extra members differ; equals share both."""
    client, transport = scripted_client(answer)
    for options in ({}, {"headers": {"X-A": "1"}}, {"headers": {"X-A": "2"}}, {"extra": {"volume": 1}}):
        client.batch_synth(["same", "same", "other"], **options)
    assert [len(body_of(request)["texts"]) for request in transport.requests] == [2, 2, 2, 2]
    client.close()


def test_the_fingerprint_includes_extra_members_and_no_headers() -> None:
    """Audio depends on the one, and not on who asks; without either it is what it always was."""
    plain = VoiceSettings(voice="v")
    assert (
        Utterance("a", plain).fingerprint == Utterance("a", VoiceSettings(voice="v", extra={}, headers={})).fingerprint
    )
    told = [
        VoiceSettings(voice="v", extra=extra) for extra in ({"volume": 1}, {"volume": 2}, {"volume": 1, "pitch": 1})
    ]
    assert len({Utterance("a", settings).fingerprint for settings in (plain, *told)}) == 4
    same = VoiceSettings(voice="v", extra={"pitch": 1, "volume": 1})
    assert (same, hash(same), Utterance("a", same).fingerprint) == (
        told[2],
        hash(told[2]),
        Utterance("a", told[2]).fingerprint,
    )
    tenant = VoiceSettings(voice="v", headers={"X-A": "1"})
    assert Utterance("a", tenant).fingerprint == Utterance("a", plain).fingerprint
    assert Utterance("a", tenant).key != Utterance("a", plain).key
    assert tenant != plain


# --- extra members ---


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"a": float("nan")}, "JSON cannot represent it"),
        ({"a": {1, 2}}, "JSON cannot represent it"),
        ({"a": "\ud800"}, "JSON cannot represent it"),
        ({"a": "x" * 70_000}, "at most 65536"),
        ({"": 1}, "is no valid"),
        ({3: 1}, "is no valid"),
        ({"a\n": 1}, "is no valid"),
        ([1], "must be a mapping, got list|must be a mapping"),
        ({"texts": []}, "extra: texts .* the client sends it itself"),
        ({"voice": "v"}, "extra: voice .* pass voice= instead"),
        ({"speed": 2}, "extra: speed .* pass speed= instead"),
    ],
)
def test_invalid_extra_members_are_refused(given: Any, says: str) -> None:
    """Before anything is sent."""
    client, transport = scripted_client(answer)
    with pytest.raises(BadUtterance, match=says):
        client.synthesize("hello", extra=given)
    assert transport.requests == []
    client.close()


def test_deeply_nested_extra_members_are_refused() -> None:
    """Deeper than any reader follows."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(BadUtterance, match="JSON cannot represent it: RecursionError"):
        Extra({"a": deep})


def test_extra_members_of_a_call_override_those_of_its_client() -> None:
    """And what the caller changes afterwards changes nothing."""
    given = {"volume": 50, "language_hints": ["zh"]}
    client, transport = scripted_client(answer, extra=given)
    given["volume"] = 99
    client.synthesize("one")
    client.synthesize("two", extra={"volume": 80, "pitch": 1.5})
    assert [{**body_of(request), "texts": None} for request in transport.requests] == [
        {"texts": None, "format": "wav", "sample_rate": 24000, "speed": 1.0, **said}
        for said in (
            {"volume": 50, "language_hints": ["zh"]},
            {"volume": 80, "language_hints": ["zh"], "pitch": 1.5},
        )
    ]
    client.close()


def test_model_studio_receives_parameters_and_a_workspace() -> None:
    """Over both of its ways; the workspace is a header of its own there."""
    settings = VoiceSettings(voice="v", model="m", extra={"volume": 80, "language_hints": ["zh"], "workspace": "ws-1"})
    utterance = Utterance("hello", settings)
    request = protocol_for("model-studio", WireConfig()).encode([utterance], key="k")
    assert request.headers == (("X-DashScope-WorkSpace", "ws-1"),)
    assert request.new_session is not None
    parameters = json.loads(request.new_session().open()[0])["payload"]["parameters"]
    assert (parameters["volume"], parameters["language_hints"], "workspace" in parameters) == (80, ["zh"], False)
    request = protocol_for("model-studio-http", WireConfig()).encode([utterance], key="k")
    assert ("X-DashScope-WorkSpace", "ws-1") in request.headers
    said = json.loads(request.body)["input"]
    assert (said["volume"], said["language_hints"], "workspace" in said) == (80, ["zh"], False)


def test_xinference_receives_extra_members_in_its_kwargs() -> None:
    """Packed in ``kwargs``; the other servers beside the rest."""
    settings = VoiceSettings(voice="v", model="m", seed=1, extra={"top_k": 5})
    body = json.loads(protocol_for("openai:xinference", WireConfig()).encode([Utterance("a", settings)], key="k").body)
    assert json.loads(body["kwargs"]) == {"seed": 1, "top_k": 5}
    settings = VoiceSettings(voice="v", model="m", extra={"top_k": 5})
    body = json.loads(protocol_for("openai", WireConfig()).encode([Utterance("a", settings)], key="k").body)
    assert body["top_k"] == 5


def test_triton_parameters_must_be_plain_values() -> None:
    """Its own message knows no lists; numbers below zero are there whole."""
    from tritonclient.grpc import service_pb2

    for name in ("triton", "triton-grpc"):
        with pytest.raises(BadUtterance, match="extra: a must be a str, a whole number or a bool"):
            check_supported(protocol_for(name, WireConfig()), VoiceSettings(extra={"a": [1]}))
    said = {"yes": True, "no": False, "zero": 0, "less": -5, "word": "w", "blank": ""}
    utterance = Utterance("hello", VoiceSettings(extra=said))
    request = protocol_for("triton-grpc", WireConfig()).encode([utterance], key="k")
    read = service_pb2.ModelInferRequest.FromString(request.body).parameters
    found = {name: getattr(read[name], str(read[name].WhichOneof("parameter_choice"))) for name in said}
    assert found == said


def test_a_websocket_whose_state_extra_members_change_is_not_reused() -> None:
    """The extra members of one text would apply to the next on the same connection."""
    protocol = protocol_for("vllm-omni-ws", WireConfig())
    for extra, reusable in (({"language": "zh"}, False), (None, True)):
        request = protocol.encode([Utterance("hello", VoiceSettings(voice="v", extra=extra))], key="k")
        assert request.new_session is not None
        session = request.new_session()
        session.open()
        session.receive(json.dumps({"type": "session.done"}))
        assert session.reusable is reusable


# --- unknown options, and the command line ---


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("voise", "unknown option voise; did you mean voice?; known are"),
        ("samplerate", "did you mean sample_rate?"),
        ("header", "did you mean headers?"),
        ("time_out", "did you mean timeout?"),
        ("zzz", "unknown option zzz; known are"),
    ],
)
def test_an_unknown_option_names_the_nearest(option: str, says: str) -> None:
    """A misspelled option gets a suggestion."""
    client, _ = scripted_client(answer)
    with pytest.raises(ConfigurationError, match=says.replace("?", r"\?")):
        client.synthesize("hello", **{option: 1})  # type: ignore[arg-type]
    client.close()


def test_the_command_line_accepts_headers_and_extra_members(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON where it is JSON, words otherwise."""
    (tmp_path / "in.txt").write_text("hello\n")
    with hostile(speaks) as service:
        arguments = ["synth", str(tmp_path / "in.txt"), "-o", str(tmp_path / "out"), "--url", service.url]
        more = ["--header", "X-Tenant: a:b", "--extra", "volume=80", "--extra", "style=sad", "--extra", 'hints=["zh"]']
        assert main([*arguments, *more]) == 0
        assert service.requests[0].headers["x-tenant"] == "a:b"
        body = json.loads(service.requests[0].body)
    assert (body["volume"], body["style"], body["hints"]) == (80, "sad", ["zh"])
    capsys.readouterr()
    for wrong, says in (
        (["--header", "secret"], "--header: must look like 'Name: value'"),
        (["--header", "Host: secret"], "--header: Host delimits"),
        (["--extra", "volume"], "--extra: must look like name=value, got 'volume'"),
    ):
        assert main([*arguments, *wrong]) == 2
        told = capsys.readouterr().err
        assert says in told
        assert "secret" not in told

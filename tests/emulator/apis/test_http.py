"""The HTTP APIs: their options, their defects, and the errors that the client raises for them."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient import (
    BadRequest,
    ClientConfig,
    CosyClient,
    CosyError,
    DecodeError,
    NotFound,
    ServiceFault,
    Throttled,
    TransportError,
    Word,
)
from cosyclient.config import TimeoutConfig
from cosyclient.emulator.apis.base import segments
from cosyclient.emulator.speech.echo import echo_text
from tests.contracts.apis_runtime import uploaded
from tests.emulator.wire import call, open_socket, read_all
from tests.protocols.wire_runtime import CLONE, CROSS, TRANSCRIPT, recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosyclient.emulator import Emulator

TEXT = "你好，世界。"
LONG = f"{'今天天气很好我们去公园散步' * 6}。{'明天又会下雨大家都留在家里' * 6}。"
MODEL_STUDIO: dict[str, Any] = {"protocol": "model-studio-http", "model": "cosyvoice-v3-flash", "voice": "longanyang"}


@contextmanager
def client(emulator: Emulator, protocol: str = "runtime", path: str = "", **options: Any) -> Iterator[CosyClient]:
    """Give a client that makes one attempt, closed at the end."""
    instruct = {"instruct": told} if (told := options.pop("instruct", None)) else {}
    with CosyClient(emulator.url + path, protocol=protocol, max_retries=0, **options) as whole:
        yield whole.with_options(**instruct)


def failed(
    emulator: Emulator, protocol: str = "runtime", path: str = "", text: str = TEXT, **options: Any
) -> CosyError:
    """Return the error of one text."""
    with client(emulator, protocol, path, **options) as cosy, pytest.raises(CosyError) as caught:
        cosy.synthesize(text)
    return caught.value


@pytest.mark.parametrize(
    ("model", "serves", "rate"),
    [
        ("any", {"sft", "instruct", "instruct2", "zero_shot", "cross_lingual"}, 24000),
        ("cosyvoice-300m", {"sft", "instruct", "zero_shot", "cross_lingual"}, 22050),
        ("cosyvoice2", {"instruct2", "zero_shot", "cross_lingual"}, 24000),
        ("cosyvoice3", {"instruct2", "zero_shot", "cross_lingual"}, 24000),
    ],
)
def test_a_model_serves_its_modes_at_its_rate(start: Any, model: str, serves: set[str], rate: int) -> None:
    """The matrix of the reference; what a model does not have ends the connection after a status of 200."""
    emulator = start(engine="echo", runtime_model=model)
    requests: dict[str, dict[str, Any]] = {
        "sft": {"voice": "中文女"},
        "instruct": {"voice": "中文女", "instruct": "softly"},
        "instruct2": {"voice": CROSS, "instruct": "softly"},
        "zero_shot": {"voice": CLONE},
        "cross_lingual": {"voice": CROSS},
    }
    protocol = "runtime:cosyvoice3" if model == "cosyvoice3" else "runtime"
    for mode, options in requests.items():
        if mode in serves:
            with client(emulator, protocol, sample_rate=rate, **options) as cosy:
                speech = cosy.synthesize(TEXT)
            assert echo_text(speech.audio) == TEXT
            assert speech.duration == pytest.approx(0.2, abs=0.01)
        else:
            error = failed(emulator, protocol, sample_rate=rate, **options)
            assert type(error) is TransportError
            assert "a mode that its model does not have" in str(error)
        assert emulator.received()[-1]["mode"] == mode
    assert emulator.counters().replies == {200: 5}


def test_cosyvoice3_requires_its_mark(start: Any) -> None:
    """Which the plain dialect does not write."""
    emulator = start(engine="echo", runtime_model="cosyvoice3")
    for voice in (CLONE, CROSS):
        assert type(failed(emulator, voice=voice)) is TransportError


def test_the_defect_of_december_2025(start: Any) -> None:
    """Every recording fails, with a status of 200; named voices go on."""
    emulator = start(engine="echo", runtime_tensor=True)
    for options in ({"voice": CLONE}, {"voice": CROSS}, {"voice": CROSS, "instruct": "softly"}):
        assert type(failed(emulator, **options)) is TransportError
    with client(emulator, voice="中文女") as cosy:
        assert echo_text(cosy.synthesize(TEXT).audio) == TEXT


def test_each_segment_is_a_chunk(start: Any) -> None:
    """So a stream begins with the first sentences and not with the first samples."""
    emulator = start(engine="echo")
    parts = segments(LONG)
    assert len(parts) == 2
    with client(emulator, voice="中文女") as cosy, cosy.stream(LONG) as stream:
        assert echo_text(stream.speech().audio) == LONG
    body = f"tts_text={LONG}&spk_id=中文女".encode()
    head = f"POST /inference_sft HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    with open_socket(emulator.url) as connection:
        connection.sendall(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n".encode() + body)
        raw, _ = read_all(connection)
    answered, _, chunks = raw.partition(b"\r\n\r\n")
    assert b"content-type" not in answered.lower()
    sizes = []
    while (size := int(chunks[: chunks.index(b"\r\n")], 16)) > 0:
        sizes.append(size)
        chunks = chunks[chunks.index(b"\r\n") + 2 + size + 2 :]
    assert len(sizes) == len(parts)


def test_punctuation_is_an_empty_reply(start: Any) -> None:
    """Cleanly ended, and an error that no retry would mend."""
    error = failed(start(engine="echo"), voice="中文女", text="……！！")
    assert isinstance(error, DecodeError)
    assert not error.retryable


def test_text_with_markup_is_not_split(start: Any) -> None:
    """Whatever is inside the marks."""
    emulator = start(engine="echo")
    with client(emulator, voice="中文女") as cosy:
        assert echo_text(cosy.synthesize("<|zh|>……").audio) == "<|zh|>……"


def test_a_recording_that_is_too_long_breaks_the_reply(start: Any) -> None:
    """The client never sends one; others do. One at too low a rate is a plain 500."""
    emulator = start(engine="echo")
    for data, statuses in ((recording(31.0), {200: 1}), (recording(1.0, 8000), {500: 1})):
        emulator.reset()
        parts = [
            b'--x\r\nContent-Disposition: form-data; name="tts_text"\r\n\r\na',
            b'--x\r\nContent-Disposition: form-data; name="prompt_wav"; filename="a.wav"\r\n\r\n' + data,
            b"--x--\r\n",
        ]
        body = b"\r\n".join(parts)
        head = f"POST /inference_cross_lingual HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        with open_socket(emulator.url) as connection:
            connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n".encode())
            connection.sendall(b"Connection: close\r\n\r\n" + body)
            raw, _ = read_all(connection)
        assert emulator.counters().replies == statuses
        assert not raw.endswith(b"0\r\n\r\n")


def test_lighttts_changes_the_speed_only_without_streaming(start: Any) -> None:
    """Errors are in its own form, or FastAPI's."""
    emulator = start(engine="tone")
    with client(emulator, "lighttts", "/lighttts", voice=CLONE) as cosy:
        assert cosy.synthesize(LONG, speed=2.0).duration == pytest.approx(cosy.synthesize(LONG).duration / 2, abs=0.2)

    def answer(**fields: str | None) -> tuple[int, Any]:
        parts = {"tts_text": TEXT, "prompt_text": TRANSCRIPT, **fields}
        written = [
            f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
            for name, value in parts.items()
            if value is not None
        ]
        written += [
            b'--x\r\nContent-Disposition: form-data; name="prompt_wav"; filename="a"\r\n\r\n' + recording(),
            b"--x--\r\n",
        ]
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        reply = call(emulator.url, "POST", "/lighttts/inference_zero_shot", b"\r\n".join(written), headers)
        return reply.status, reply.json()

    assert answer(tts_model_name="nobody") == (417, {"message": "'nobody'"})
    only = "speed change only support non-stream inference mode"
    assert answer(stream="true", speed="1.5") == (400, {"message": only})
    status, body = answer(stream="maybe", speed="fast")
    assert (status, [fault["type"] for fault in body["detail"]]) == (422, ["bool_parsing", "float_parsing"])
    assert answer(prompt_text=None)[1]["detail"][0]["loc"] == ["body", "prompt_text"]
    emulator.inject("error", status=417)
    error = failed(emulator, "lighttts", "/lighttts", voice=CLONE)
    assert (type(error), error.endpoint_fault) == (ServiceFault, True)
    assert call(emulator.url, "GET", "/lighttts/healthz").json() == {"message": "Ok"}
    assert call(emulator.url, "GET", "/lighttts/readiness").json() == {"status": "ok"}


def test_the_runtime_refuses_as_fastapi_does(start: Any) -> None:
    """Wrong paths and methods in its shape; an empty text is a text, of which there is nothing to be spoken."""
    emulator = start(serve="runtime")
    lost = call(emulator.url, "GET", "/nowhere")
    assert (lost.status, lost.json()) == (404, {"detail": "Not Found"})
    wrong = call(emulator.url, "PUT", "/inference_sft")
    assert (wrong.status, wrong.json(), wrong.headers["allow"]) == (405, {"detail": "Method Not Allowed"}, "POST")
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    silent = call(emulator.url, "POST", "/inference_sft", b"tts_text=&spk_id=default", headers)
    assert (silent.status, silent.body) == (200, b"")
    missing = call(emulator.url, "POST", "/inference_sft", b"tts_text=", headers)
    assert (missing.status, missing.json()["detail"][0]["loc"]) == (422, ["body", "spk_id"])


def test_lighttts_alone_has_the_paths_of_the_real_one(start: Any) -> None:
    """Its health paths, too; beside the other APIs it has a prefix."""
    alone, beside = start(serve="lighttts"), start()
    for path, document in (
        ("/query_tts_model", {"tts_models": ["CosyVoice2", "CosyVoice3"]}),
        ("/liveness", {"status": "ok"}),
        ("/readiness", {"status": "ok"}),
        ("/healthz", {"message": "Ok"}),
    ):
        assert call(alone.url, "GET", path).json() == document
        assert call(beside.url, "GET", f"/lighttts{path}").json() == document
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="tts_text"\r\n\r\na',
        b'--x\r\nContent-Disposition: form-data; name="prompt_text"\r\n\r\nb',
        b'--x\r\nContent-Disposition: form-data; name="prompt_wav"; filename="a"\r\n\r\nRIFF',
        b"--x--\r\n",
    ]
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    unreadable = call(alone.url, "POST", "/inference_zero_shot", b"\r\n".join(parts), headers)
    assert (unreadable.status, unreadable.json()) == (400, {"message": "audio file format is incorrect"})


def test_recordings_are_kept_until_they_are_deleted(start: Any) -> None:
    """A voice of PAI-EAS is the id of one."""
    emulator = start(engine="echo")
    voice = uploaded(emulator)["voice"]
    path = "/api/v1/audio/reference_audio"
    shown = call(emulator.url, "GET", f"{path}/{voice}").json()
    assert (shown["id"], shown["bytes"], shown["text"]) == (voice, len(recording()), TRANSCRIPT)
    assert shown["filename"] == "a.wav"
    assert call(emulator.url, "GET", path).json() == [shown]
    with client(emulator, "pai-eas", voice=voice) as cosy:
        assert echo_text(cosy.synthesize(TEXT, instruct="用四川话").audio) == TEXT
        assert cosy.voices() == [voice]
    received = emulator.received()[-1]
    assert (received["mode"], received["instruct"]) == ("natural_language_replication", "用四川话")
    assert call(emulator.url, "DELETE", f"{path}/{voice}").status == 200
    assert isinstance(failed(emulator, "pai-eas", voice=voice), NotFound)
    assert call(emulator.url, "PUT", path).status == 405


def test_pai_eas_sends_errors_with_status_200(start: Any) -> None:
    """In a whole reply or within a stream, whose first pieces the caller gets."""
    emulator = start(engine="tone")
    options = uploaded(emulator)
    emulator.inject("error_event", code="OutOfMemory")
    error = failed(emulator, "pai-eas", **options)
    assert (type(error), getattr(error, "code", None)) == (ServiceFault, "OutOfMemory")
    with client(emulator, "pai-eas", **options) as cosy:
        emulator.inject("error_event", after=2)
        with cosy.stream(LONG) as stream, pytest.raises(ServiceFault) as caught:
            list(stream)
        assert caught.value.partial is not None
        assert caught.value.partial.duration == pytest.approx(2.0)
    wrongs: list[Any] = [{"input": {"mode": "x"}}, {"input": {"mode": "fast_replication", "text": " "}}, {}, []]
    for wrong in wrongs:
        answer = call(emulator.url, "POST", "/api/v1/audio/speech", json.dumps(wrong).encode())
        assert answer.status == 400
        assert answer.json()["error"]["message"]


@pytest.mark.parametrize("lines", [False, True])
def test_model_studio_has_every_format_and_word_timings(start: Any, lines: bool) -> None:
    """However its events are written."""
    emulator = start(engine="tone", sse_lines=lines)
    with client(emulator, **MODEL_STUDIO) as cosy:
        for format in ("wav", "pcm", "mp3", "opus"):
            speech = cosy.synthesize(LONG, format=format, sample_rate=24000)
            assert speech.duration == pytest.approx(32.0, rel=0.1)
        words = cosy.synthesize(LONG, words=True).words
        assert "".join(word.text for word in words) == "".join(filter(str.isalnum, LONG))
        assert all(isinstance(word, Word) and 0 <= word.start < word.end <= 33.0 for word in words)
        assert [word.start for word in words] == sorted(word.start for word in words)
        emulator.inject("error_event", after=1, code="Throttling.RateQuota")
        with cosy.stream(LONG) as stream, pytest.raises(Throttled) as caught:
            list(stream)
        assert caught.value.partial is not None
        emulator.inject("throttle", retry_after=0)
        with pytest.raises(Throttled) as refused:
            cosy.synthesize(TEXT)
        assert refused.value.code == "Throttling.RateQuota"
        assert refused.value.request_id
    error = failed(emulator, **{**MODEL_STUDIO, "voice": "alloy"})
    assert isinstance(error, BadRequest)
    assert "418" in str(error)


def test_every_api_requires_the_key(start: Any) -> None:
    """Each refuses in its own form, and the client understands all of them."""
    emulator = start(engine="echo", api_key="k")
    rows: list[dict[str, Any]] = [
        {"voice": "中文女"},
        {"protocol": "lighttts", "path": "/lighttts", "voice": CLONE},
        {"protocol": "pai-eas", "voice": "0"},
        MODEL_STUDIO,
    ]
    for row in rows:
        error = failed(emulator, api_key="wrong", **row)
        assert type(error).__name__ == "Unauthorized"


def test_a_read_timeout_ends_a_runtime_that_hangs(start: Any) -> None:
    """A lost TensorRT context blocks it for ever; time-outs are the only defence."""
    emulator = start(engine="echo")
    emulator.inject("hang_body", at=0)
    config = ClientConfig(timeouts=TimeoutConfig(first_byte=0.2, allowance=0.01))
    error = failed(emulator, voice="中文女", config=config)
    assert type(error).__name__ == "AttemptTimeout"

"""Every rule of a batch request, and the problem document for each."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulator.wire import Answer, call, post

if TYPE_CHECKING:
    from cosyclient.emulator import Emulator


def assert_problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """Check the shape of a problem document and return it."""
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["code"] == code
    assert problem["status"] == status
    assert isinstance(problem["title"], str)
    assert isinstance(problem["detail"], str)
    assert problem["type"].endswith(code)
    assert problem["instance"]
    assert isinstance(problem["retryable"], bool)
    return problem


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"texts": None}, "/texts"),
        ({"texts": "hello"}, "/texts"),
        ({"texts": []}, "/texts"),
        ({"texts": ["fine", 3]}, "/texts/1"),
        ({"texts": ["fine", ""]}, "/texts/1"),
        ({"texts": ["fine", "fine", " \t\n"]}, "/texts/2"),
        ({"texts": ["x" * 4097]}, "/texts/0"),
        ({"model": 7}, "/model"),
        ({"voice": None}, "/voice"),
        ({"format": "flac"}, "/format"),
        ({"format": ["wav"]}, "/format"),
        ({"sample_rate": 24001}, "/sample_rate"),
        ({"sample_rate": "24000"}, "/sample_rate"),
        ({"sample_rate": True}, "/sample_rate"),
        ({"speed": 0.49}, "/speed"),
        ({"speed": 2.01}, "/speed"),
        ({"speed": "fast"}, "/speed"),
        ({"speed": True}, "/speed"),
        ({"instruct": "x" * 501}, "/instruct"),
        ({"instruct": 1}, "/instruct"),
        ({"seed": -1}, "/seed"),
        ({"seed": 65536}, "/seed"),
        ({"seed": 1.5}, "/seed"),
    ],
)
def test_a_broken_rule_is_named_by_a_pointer(emulator: Emulator, change: dict[str, Any], pointer: str) -> None:
    """422 validation_failed points at the member."""
    problem = assert_problem(post(emulator.url, {"texts": ["hello"], **change}), 422, "validation_failed")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert problem["retryable"] is False


def test_every_broken_rule_is_named(emulator: Emulator) -> None:
    """One answer lists all that is wrong."""
    answer = post(emulator.url, {"texts": ["", "fine", 1], "speed": 9, "format": "aiff"})
    problem = assert_problem(answer, 422, "validation_failed")
    assert [error["pointer"] for error in problem["errors"]] == ["/texts/0", "/texts/2", "/format", "/speed"]


def test_lone_surrogates_are_refused(emulator: Emulator) -> None:
    """Half a code point is no text."""
    problem = assert_problem(post(emulator.url, rb'{"texts":["ok","\ud800"]}'), 422, "validation_failed")
    assert problem["errors"][0]["pointer"] == "/texts/1"


def test_a_batch_holds_at_most_64_texts(emulator: Emulator) -> None:
    """64 pass, 65 do not."""
    assert post(emulator.url, {"texts": ["a"] * 64}).status == 200
    assert_problem(post(emulator.url, {"texts": ["a"] * 65}), 422, "too_many_texts")


@pytest.mark.parametrize(
    "member",
    [
        {"model": None},
        {"model": "cosyvoice2-0.5b"},
        {"voice": "default"},
        {"voice": "中文女"},
        {"speed": 2},
        {"instruct": None, "seed": None},
        {"instruct": "开心地说", "seed": 65535},
        {"no_such_member": {"is": "ignored"}},
        {"texts": ["字" * 4096], "format": "mp3", "sample_rate": 8000, "speed": 2.0},
    ],
)
def test_what_the_rules_allow_passes(emulator: Emulator, member: dict[str, Any]) -> None:
    """The limits belong to what is allowed; unknown members are ignored."""
    assert post(emulator.url, {"texts": ["你好"], **member}).status == 200


def test_unknown_model_and_voice_are_404(emulator: Emulator) -> None:
    """What is well formed but not there is not found."""
    assert_problem(post(emulator.url, {"texts": ["a"], "model": "gpt"}), 404, "unknown_model")
    assert_problem(post(emulator.url, {"texts": ["a"], "voice": "nobody"}), 404, "unknown_voice")


@pytest.mark.parametrize("body", [b"", b"{", b'{"texts":["a"],}', b"\xff", b'{"texts":NaN}', b"[" * 100_000])
def test_malformed_json_is_400(emulator: Emulator, body: bytes) -> None:
    """Any body that is not JSON is refused as such."""
    assert_problem(post(emulator.url, body), 400, "malformed_json")


def test_json_that_is_no_object_breaks_a_rule(emulator: Emulator) -> None:
    """The whole document has the empty pointer."""
    problem = assert_problem(post(emulator.url, b'["a"]'), 422, "validation_failed")
    assert problem["errors"][0]["pointer"] == ""


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=gbk"]
)
def test_other_media_types_are_415(emulator: Emulator, media_type: str) -> None:
    """Only JSON in UTF-8 is read."""
    assert_problem(post(emulator.url, {"texts": ["a"]}, content_type=media_type), 415, "unsupported_media_type")


def test_json_may_name_its_charset(emulator: Emulator) -> None:
    """The header of the definition is accepted as it stands."""
    answer = post(emulator.url, {"texts": ["a"]}, content_type="application/json; charset=utf-8")
    assert answer.status == 200


def test_unknown_content_encoding_is_415(emulator: Emulator) -> None:
    """Only gzip is undone."""
    assert_problem(post(emulator.url, {"texts": ["a"]}, content_encoding="br"), 415, "unsupported_media_type")


def test_a_gzip_request_is_understood(emulator: Emulator) -> None:
    """A compressed request is worth as much as a plain one."""
    body = gzip.compress(json.dumps({"texts": ["你好"]}).encode())
    assert post(emulator.url, body, content_encoding="gzip").json()["succeeded"] == 1


@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b'{"texts":["a"]}')[:-4]], ids=["no gzip", "cut"])
def test_broken_gzip_is_400(emulator: Emulator, body: bytes) -> None:
    """A body that cannot be inflated is malformed."""
    assert_problem(post(emulator.url, body, content_encoding="gzip"), 400, "malformed_json")


def test_a_large_body_is_413(emulator: Emulator) -> None:
    """Over 1 MiB is too large, as it is sent, and when a small one grows."""
    body = json.dumps({"texts": ["a"], "padding": "x" * (1 << 20)}).encode()
    assert_problem(post(emulator.url, body), 413, "body_too_large")
    assert_problem(post(emulator.url, gzip.compress(body), content_encoding="gzip"), 413, "body_too_large")
    bomb = gzip.compress(b" " * (64 << 20), 1)[: 1 << 20]
    assert_problem(post(emulator.url, bomb, content_encoding="gzip"), 413, "body_too_large")


def test_a_large_chunked_body_is_413(emulator: Emulator) -> None:
    """The limit holds without a Content-Length, too."""
    chunks = [b"x" * 65536] * 17
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    assert_problem(call(emulator.url, "POST", "/batch", body, headers), 413, "body_too_large")


def test_the_limit_of_the_body_is_an_option(start: Any) -> None:
    """A smaller limit refuses smaller bodies."""
    emulator = start(max_body_bytes=20)
    assert post(emulator.url, {"texts": ["a"]}).status == 200
    assert_problem(post(emulator.url, {"texts": ["a" * 20]}), 413, "body_too_large")


def test_other_paths_and_methods_are_problems(emulator: Emulator) -> None:
    """404 and 405, as problem documents."""
    assert_problem(call(emulator.url, "GET", "/nowhere"), 404, "not_found")
    answer = call(emulator.url, "GET", "/batch")
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_the_api_key_is_required(start: Any) -> None:
    """No key, a wrong key and a wrong scheme are 401; the right key is admitted."""
    emulator = start(api_key="s3cret")
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic s3cret"}):
        answer = post(emulator.url, {"texts": ["a"]}, **headers)
        assert_problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert post(emulator.url, {"texts": ["a"]}, authorization="Bearer s3cret").status == 200
    assert call(emulator.url, "GET", "/health").status == 200


def test_the_request_id_comes_back(emulator: Emulator) -> None:
    """On success and on refusal; without one the service makes one up."""
    assert post(emulator.url, {"texts": ["a"]}, x_request_id="abc-1").headers["x-request-id"] == "abc-1"
    assert post(emulator.url, b"{", x_request_id="abc-2").headers["x-request-id"] == "abc-2"
    assert call(emulator.url, "GET", "/nowhere", None, {"X-Request-Id": "abc-3"}).headers["x-request-id"] == "abc-3"
    assert post(emulator.url, {"texts": ["a"]}).headers["x-request-id"]


def test_slow_start_answers_loading(start: Any) -> None:
    """While the model loads, 503 and a Retry-After within the time left."""
    emulator = start(slow_start=500.0)
    answer = post(emulator.url, {"texts": ["a"]})
    problem = assert_problem(answer, 503, "loading")
    assert problem["retryable"] is True
    assert 0 < problem["retry_after_ms"] <= 500_000
    assert 0 < int(answer.headers["retry-after"]) <= 500
    assert_problem(call(emulator.url, "GET", "/health"), 503, "loading")


def test_the_control_pages_require_the_key(start: Any) -> None:
    """Without it nobody reads received texts or injects faults; the `Emulator` object sends it."""
    emulator = start(api_key="s3cret")
    for method, path in (
        ("GET", "/_emulator/counters"),
        ("GET", "/_emulator/received"),
        ("POST", "/_emulator/reset"),
        ("POST", "/_emulator/faults"),
        ("POST", "/_emulator/gpus"),
    ):
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            assert call(emulator.url, method, path, headers=headers).status == 401, path
    reply = call(emulator.url, "GET", "/_emulator/counters", headers={"Authorization": "Bearer s3cret"})
    assert reply.status == 200
    assert emulator.counters().requests >= 0
    emulator.inject("error")
    emulator.reset()
    assert call(emulator.url, "GET", "/health").status == 200

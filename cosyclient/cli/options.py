"""Options that several commands share (service, voice, limits), and the client made from them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cosyclient.audio import MEDIA_TYPES
from cosyclient.client import CosyClient
from cosyclient.clock import SystemClock
from cosyclient.config import ClientConfig, QueueConfig, RetryConfig
from cosyclient.config.environment import read_environment
from cosyclient.config.resolve import resolve
from cosyclient.errors import BadUtterance, ConfigurationError
from cosyclient.models import SAMPLE_RATES
from cosyclient.protocols.addresses import default_protocol, guess, without_route
from cosyclient.protocols.registry import check_supported, every_name, families, protocol_for
from cosyclient.transports.registry import transport_for
from cosyclient.voices import Voice

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.events import Listener
    from cosyclient.models import VoiceSettings
    from cosyclient.protocols.base import WireProtocol
    from cosyclient.protocols.capabilities import Capabilities
    from cosyclient.transports.base import PoolStats, Transport
    from cosyclient.wire import WireReply, WireRequest

# An address to validate options with; nothing is sent to it.
_PLACEHOLDER_URL: Final = "http://127.0.0.1"
# The command line's names of the library's arguments.
_OPTIONS: Final = {
    "base_url": "--url",
    "requests_per_second": "--rate",
    "max_connections": "--connections",
    "max_batch": "--max-batch",
    "max_retries": "--retries",
    "sample_rate": "--sample-rate",
    "verify": "--ca-file",
    "protocol": "--protocol",
    "headers": "--header",
    "retry.wait_for_service": "--wait-for-service",
    **{
        name: f"--{name}"
        for name in (
            "proxy",
            "concurrency",
            "timeout",
            "voice",
            "model",
            "format",
            "speed",
            "instruct",
            "seed",
            "extra",
        )
    },
}


# Options that the emulator of this command does not have.
_SERVICE_OPTIONS: Final = ("protocol", "model", "voice", "clone", "proxy", "ca_file", "header", "extra")


def add_service(parser: argparse.ArgumentParser, *, embedded: bool = True, by_default: bool = True) -> None:
    """Add ``--url``, ``--protocol`` and the options of the connection.

    *embedded*: the command may start an emulator; *by_default*: it does so where no service is named.
    """
    otherwise = ", else an emulator is started on this machine" if embedded and by_default else ""
    parser.add_argument("--url", help=f"the service; without it COSYCLIENT_BASE_URL{otherwise}")
    if embedded:
        parser.add_argument(
            "--emulator", action="store_true", help="start an emulator on this machine and use it (not CosyVoice)"
        )
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help=f"the service's protocol, one of {', '.join(families())}, or one of their dialects, which cosyclient "
        f"protocols lists (default: COSYCLIENT_PROTOCOL, else the one the URL implies, else {default_protocol()})",
    )
    parser.add_argument(
        "--proxy",
        metavar="URL",
        help="a proxy, such as http://host:port or socks5://host:port (default: COSYCLIENT_PROXY, else HTTPS_PROXY, "
        "HTTP_PROXY, ALL_PROXY and NO_PROXY; keep a password out of the command line, which other users can read)",
    )
    parser.add_argument(
        "--ca-file",
        metavar="PATH",
        help="the authorities to trust, a PEM file or a directory of them (default: COSYCLIENT_VERIFY, else "
        "SSL_CERT_FILE, SSL_CERT_DIR, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, else certifi's)",
    )
    parser.add_argument(
        "--header",
        action="append",
        metavar="'NAME: VALUE'",
        help="send this header field, or gRPC metadata, along; may be given several times (for a secret "
        "use COSYCLIENT_HEADERS: other users of this machine can read command lines)",
    )


def add_voice(parser: argparse.ArgumentParser, *, formats: bool = True) -> None:
    """Add the options of `VoiceSettings`."""
    voice = parser.add_argument_group("voice")
    voice.add_argument("--voice", metavar="NAME", help="default: COSYCLIENT_VOICE, else the service's choice")
    voice.add_argument("--clone", metavar="WAV", help="speak with the voice of this recording (WAV, at most 30 s)")
    voice.add_argument("--transcript", metavar="TEXT", help="what is said in the recording of --clone")
    voice.add_argument("--model", metavar="NAME", help="default: COSYCLIENT_MODEL, else the service's choice")
    if formats:
        voice.add_argument("--format", choices=tuple(MEDIA_TYPES), help="of the audio files (wav)")
    voice.add_argument(
        "--sample-rate",
        type=int,
        choices=SAMPLE_RATES,
        metavar="HZ",
        help=f"{', '.join(map(str, SAMPLE_RATES))} (24000)",
    )
    voice.add_argument(
        "--speed", type=float, metavar="FACTOR", help="0.25 to 4.0; some protocols have a narrower range (1)"
    )
    voice.add_argument("--instruct", metavar="WORDS", help="how to speak, in words")
    voice.add_argument(
        "--extra",
        action="append",
        metavar="NAME=VALUE",
        help="a member of the request that the service knows and this command does not, such as volume=80 or "
        'language_hints=["zh"]: JSON, else a string; may be given several times',
    )
    voice.add_argument(
        "--seed", type=int, metavar="N", help="0 to 65535; the same seed gives the same speech (default: none)"
    )


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the limits of the service, and those of the client: concurrency, batch size, timeout, retries."""
    limits = parser.add_argument_group(
        "limits",
        "Each has an environment variable, such as COSYCLIENT_REQUESTS_PER_SECOND; the README lists them. The API key "
        "has no option, because other users can read command lines: use COSYCLIENT_API_KEY.",
    )
    quota = limits.add_mutually_exclusive_group()
    quota.add_argument("--rate", type=float, metavar="N", help="the service's quota in requests per second (100)")
    quota.add_argument(
        "--no-quota", action="store_true", help="the service has no quota, such as a server of your own: do not pace"
    )
    limits.add_argument("--connections", type=int, metavar="N", help="the service's connection limit (50)")
    limits.add_argument("--concurrency", type=int, metavar="N", help="requests in flight (default: by Little's Law)")
    limits.add_argument("--max-batch", type=int, metavar="N", help="texts per request (64)")
    limits.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="per text (default: 30 and 1 per 20 characters; in a job 600 and as long as its audio)",
    )
    limits.add_argument("--retries", type=int, metavar="N", help="tries after the first (3)")


def voice_of(arguments: argparse.Namespace) -> VoiceSettings:
    """Return the voice settings of *arguments*; raises `ConfigurationError` naming the option that breaks a rule."""
    options = {**_voice(arguments), "instruct": arguments.instruct, "seed": arguments.seed}
    with option_names_in_errors():
        return resolve(base_url=_PLACEHOLDER_URL, voice=options).voice


def _voice(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "voice": _speaker(arguments),
        "model": arguments.model,
        "format": getattr(arguments, "format", None),
        "sample_rate": arguments.sample_rate,
        "speed": arguments.speed,
        "headers": _headers(arguments.header),
        "extra": _extra(arguments.extra),
    }


def _headers(lines: list[str] | None) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for line in lines or ():
        name, colon, value = line.partition(":")
        if not colon:
            raise ConfigurationError("--header: must look like 'Name: value' (value not shown)")
        found[name.strip()] = value.strip()
    return found or None


def _extra(pairs: list[str] | None) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, raw = pair.partition("=")
        if not equals:
            raise ConfigurationError(f"--extra: must look like name=value, got {pair[:80]!r}")
        try:
            found[name.strip()] = json.loads(raw)
        except (ValueError, RecursionError):
            found[name.strip()] = raw
    return found or None


def _speaker(arguments: argparse.Namespace) -> Voice | str | None:
    if arguments.transcript is not None and arguments.clone is None:
        raise ConfigurationError("--transcript: needs --clone, the recording")
    if arguments.clone is None:
        named: str | None = arguments.voice
        return named
    if arguments.voice is not None:
        raise ConfigurationError("--clone: cannot be combined with --voice")
    if arguments.transcript is None:
        return Voice.cross_lingual(arguments.clone)
    return Voice.clone(arguments.clone, arguments.transcript)


class Connected(NamedTuple):
    """A service in use: its address, a client of it, and whether it is the emulator that this command started."""

    url: str
    client: CosyClient
    emulator: bool


def address_of(arguments: argparse.Namespace) -> str | None:
    """Return the service's address, or ``None`` to start an emulator.

    Raises `ConfigurationError` where options need a service and none is named.
    """
    environment = read_environment(os.environ)
    url: str | None = arguments.url or environment.get("base_url")
    if arguments.emulator:
        if arguments.url:
            raise ConfigurationError("--emulator: cannot be combined with --url")
        return None
    if url:
        return url
    given = [f"--{name.replace('_', '-')}" for name in _SERVICE_OPTIONS if getattr(arguments, name) is not None]
    given += [
        f"COSYCLIENT_{name.upper()}"
        for name in ("api_key", "protocol", "model", "voice", "proxy")
        if environment.get(name)
    ]
    if given:
        raise ConfigurationError(
            f"--url: no service is named, but {' and '.join(given)} {'is' if len(given) == 1 else 'are'} given; "
            "name it with --url or COSYCLIENT_BASE_URL, or ask for this machine's emulator with --emulator"
        )
    return None


def check_options(arguments: argparse.Namespace) -> None:
    """Validate the options before anything is sent; raises `ConfigurationError`."""
    client_of(arguments, address_of(arguments) or _PLACEHOLDER_URL).close()


def check_capability(
    arguments: argparse.Namespace, can: Callable[[Capabilities], bool], cannot: str, *, advice: str = ""
) -> None:
    """Raise `ConfigurationError` if the protocol of *arguments* lacks a capability, naming the protocols that have it.

    *cannot* says what it lacks; *advice* what to do instead of choosing another one.
    """
    protocol = _protocol_of(arguments)
    if can(protocol.capabilities):
        return
    raise ConfigurationError(
        f"protocol {protocol.name} {cannot}; {advice}protocols that can: {', '.join(protocols_with(can))}"
    )


def protocols_with(can: Callable[[Capabilities], bool]) -> list[str]:
    """Return the names of the protocols that have a capability."""
    return [name for name in every_name() if can(protocol_for(name, ClientConfig().wire).capabilities)]


def check_voice_of_every_text(arguments: argparse.Namespace, voice: VoiceSettings) -> None:
    """Raise `ConfigurationError` naming the option, if the protocol cannot serve any text with *voice*."""
    with option_names_in_errors():
        try:
            protocol = _protocol_of(arguments)
            # A pasted route may name the model.
            model = voice.model or without_route(address_of(arguments) or "", protocol.name).model
            check_supported(protocol, voice.replace({"model": model}))
        except BadUtterance as error:
            raise ConfigurationError(command_line_words(str(error))) from None


def command_line_words(message: str) -> str:
    """Return *message* of the library with the options and commands of the command line in its advice."""
    for name in ("voice", "model"):
        message = message.replace(f"; pass {name}=…", f"; give --{name}")
    return message.replace("use synthesize", "use cosyclient synth")


def _protocol_of(arguments: argparse.Namespace) -> WireProtocol:
    settings = settings_of(arguments, address_of(arguments) or _PLACEHOLDER_URL)
    with option_names_in_errors():
        return protocol_for(settings.protocol or guess(settings.base_url), settings.config.wire)


@contextlib.contextmanager
def connected(arguments: argparse.Namespace, *listeners: Listener) -> Iterator[Connected]:
    """Yield the service and a client of it, closed afterwards; start an emulator if no service is named."""
    check_options(arguments)
    with contextlib.ExitStack() as stack:
        address = address_of(arguments)
        url = address or stack.enter_context(_embedded_emulator(asked=arguments.emulator))
        client = stack.enter_context(client_of(arguments, url, *listeners))
        yield Connected(url, client, emulator=address is None)


def client_of(arguments: argparse.Namespace, url: str, *listeners: Listener, **overrides: Any) -> CosyClient:
    """Return a client of *url* configured by *arguments*, overridden by *overrides*, arguments of `CosyClient`.

    Raises `ConfigurationError` naming the option that breaks a rule.
    """
    with option_names_in_errors():
        # A file is read faster than a single text is sent: a short linger fills the first batches.
        config = ClientConfig(
            queue=QueueConfig(linger=0.01),
            retry=RetryConfig(wait_for_service=getattr(arguments, "wait_for_service", 0.0)),
        )
        values = {"config": config, "listeners": listeners, **_voice(arguments), **_limits(arguments), **overrides}
        return CosyClient(url, **values)


class _WithHeaders:
    """A transport that adds the header fields a client would add, and sends through another transport."""

    def __init__(self, transport: Transport, settings: ResolvedConfig) -> None:
        self._transport = transport
        self._headers = settings.voice.checked_headers

    def send(self, request: WireRequest, **options: Any) -> WireReply:
        return self._transport.send(request.with_headers(self._headers), **options)

    def stats(self) -> PoolStats:
        return self._transport.stats()

    def close(self) -> None:
        self._transport.close()


def transport_of(settings: ResolvedConfig, medium: str) -> Transport:
    """Return a transport of *medium* to the service of *settings*, for requests without a client's policies."""
    return _WithHeaders(transport_for(medium, settings, clock=SystemClock()), settings)


def settings_of(arguments: argparse.Namespace, url: str) -> ResolvedConfig:
    """Return the configuration of a client of *url*; raises `ConfigurationError` naming the wrong option."""
    with option_names_in_errors():
        return resolve(base_url=url, voice=_voice(arguments), **_limits(arguments))


def _limits(arguments: argparse.Namespace) -> dict[str, Any]:
    quota = {"requests_per_second": None} if arguments.no_quota else {}
    if arguments.rate is not None:
        quota = {"requests_per_second": arguments.rate}
    return {
        **quota,
        "protocol": arguments.protocol,
        "proxy": arguments.proxy,
        "verify": arguments.ca_file,
        "max_connections": arguments.connections,
        "concurrency": arguments.concurrency,
        "max_batch": arguments.max_batch,
        "timeout": arguments.timeout,
        "max_retries": arguments.retries,
    }


@contextlib.contextmanager
def _embedded_emulator(*, asked: bool) -> Iterator[str]:
    from cosyclient.emulator import running

    try:
        emulator = running(engine="espeak")
        url = emulator.__enter__()
    except (ImportError, OSError, RuntimeError) as error:
        why = "--emulator: it" if asked else "--url: none given, and the embedded emulator"
        raise ConfigurationError(f"{why} did not start: {error}") from None
    why = "" if asked else "no --url: "
    print(f"{why}started the embedded emulator at {url.url} (eSpeak NG voices, not CosyVoice)", file=sys.stderr)
    try:
        yield url.url
    finally:
        emulator.__exit__(None, None, None)


@contextlib.contextmanager
def option_names_in_errors() -> Iterator[None]:
    """Replace the names of the library's arguments in a `ConfigurationError` by those of the options."""
    try:
        yield
    except ConfigurationError as error:
        name, colon, rule = str(error).partition(": ")
        raise ConfigurationError(f"{_OPTIONS.get(name, name)}{colon}{rule}") from None

"""Measurements of a service over the wire, each without the policies of a client; `cosyclient doctor` reports them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from cosyclient.clock import Deadline, SystemClock
from cosyclient.errors import BadUtterance, CosyError
from cosyclient.models import Speech, Utterance
from cosyclient.protocols.base import ListingProtocol, PcmFormat, StreamingProtocol
from cosyclient.protocols.capabilities import check_length, check_settings
from cosyclient.transports.network import resolve_network
from cosyclient.transports.resolver import Resolver
from cosyclient.transports.sockets import StepTimeouts
from cosyclient.transports.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.protocols.base import Quota, WireProtocol
    from cosyclient.transports.base import Transport
    from cosyclient.wire import WireReply, WireRequest

TIMEOUT: Final = 60.0
"""Seconds for one request."""
_CONNECT_TIMEOUT: Final = 10.0
_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443, "grpc": 50000, "grpcs": 443}


class Measurement(NamedTuple):
    """One request for a speech: seconds to the reply's head and to its end, and what it carried."""

    first_byte: float
    whole: float
    speech: Speech
    quota: Quota | None


def measure_connection(settings: ResolvedConfig) -> dict[str, Any]:
    """Return the seconds of name lookup, connection and TLS handshake; of the proxy if there is one.

    Raises `OSError` or `TransportError` if the service cannot be reached.
    """
    parts = urlsplit(settings.base_url)
    network = resolve_network(settings)
    secure = parts.scheme in ("https", "wss", "grpcs") and network.proxy is None
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    if network.proxy is not None:
        host, port = network.proxy.host, network.proxy.port
    clock = SystemClock()
    started = clock.now()
    time_left = StepTimeouts(clock, {"connect": _CONNECT_TIMEOUT}, None).countdown(_CONNECT_TIMEOUT)
    addresses = Resolver(clock).addresses(host, port, time_left, aborted=lambda: False)
    resolved = clock.now()
    with _connect([address[:2] for *_, address in addresses]) as connection:
        connected = clock.now()
        phases = {"DNS": resolved - started, "connect": connected - resolved}
        if secure:
            context = network.tls or tls_context(settings.verify, trust_env=settings.trust_env)
            with context.wrap_socket(connection, server_hostname=parts.hostname) as wrapped:
                phases["tls"] = clock.now() - connected
                return {"phases": phases, "tls": wrapped.version()}
    return {"phases": phases} | ({"proxy": str(network.proxy)} if network.proxy is not None else {})


def _connect(addresses: Sequence[tuple[str, int]]) -> socket.socket:
    """Return a connection to the first of *addresses* that accepts one."""
    failure: OSError = OSError("the name has no address")
    for address in addresses:
        try:
            return socket.create_connection(address, _CONNECT_TIMEOUT)
        except OSError as error:
            failure = error
    raise failure


def measure_speech(protocol: WireProtocol, transport: Transport, utterance: Utterance) -> Measurement:
    """Request the speech of *utterance* once; raises the `CosyError` that it fails with."""
    check_settings(protocol.name, protocol.capabilities, utterance.settings)
    check_length(protocol.name, protocol.capabilities, utterance)
    clock = SystemClock()
    started = clock.now()
    reply = _send(transport, protocol.encode([utterance], key=f"doctor-{started:.6f}"), clock)
    first = clock.now()
    try:
        quota = protocol.quota(reply)
        results = [item for items in protocol.decode(reply, [utterance], wall=clock.wall()) for item in items]
    finally:
        reply.close()
    result = results[0][1]
    if not isinstance(result, Speech):
        raise result
    return Measurement(first - started, clock.now() - started, result, quota)


def measure_stream(protocol: StreamingProtocol, transport: Transport, utterance: Utterance) -> dict[str, Any]:
    """Request the speech of *utterance* as a stream; return the seconds to its first samples and what came."""
    clock = SystemClock()
    try:
        check_settings(protocol.name, protocol.capabilities, utterance.settings)
        started = clock.now()
        reply = _send(transport, protocol.encode_stream(utterance, key=f"doctor-{started:.6f}"), clock)
        try:
            pieces, first, rate = 0, 0.0, 0
            for piece in protocol.decode_stream(reply, utterance, wall=clock.wall()):
                if isinstance(piece, PcmFormat):
                    rate = piece.sample_rate
                else:
                    first = first or clock.now() - started
                    pieces += 1
        finally:
            reply.close()
    except BadUtterance as error:
        return {"error": str(error)}
    return {"first_audio": first, "pieces": pieces, "sample_rate": rate}


def list_voices(protocol: WireProtocol, transport: Transport) -> list[str]:
    """Return the voices that the service lists; none where it cannot or does not list any."""
    if not (protocol.capabilities.lists_voices and isinstance(protocol, ListingProtocol)):
        return []
    clock = SystemClock()
    try:
        reply = _send(transport, protocol.encode_voices(), clock)
        try:
            return protocol.decode_voices(reply, wall=clock.wall())
        finally:
            reply.close()
    except CosyError:
        return []


def _send(transport: Transport, request: WireRequest, clock: SystemClock) -> WireReply:
    return transport.send(request, deadline=Deadline.after(clock, TIMEOUT), read_timeout=TIMEOUT)

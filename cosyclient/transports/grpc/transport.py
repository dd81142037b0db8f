"""The gRPC transport: calls over few shared connections, every wait bounded by deadline and read timeout.

It carries bytes and knows no service's messages. Every method is called as one message out and a stream of messages in:
on the wire a unary call is a stream of one.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Final

import grpc

from cosyclient.errors import (
    ClientClosed,
    DeadlineExceeded,
    TransportError,
)
from cosyclient.transports.base import PoolStats, user_agent
from cosyclient.transports.grpc.options import STREAMS, options, target_of
from cosyclient.transports.grpc.reply import GrpcReply, run_uninterrupted
from cosyclient.transports.network import Network, resolve_network
from cosyclient.wire import replace_headers

if TYPE_CHECKING:
    from cosyclient.clock import Cancellation, Clock, Deadline
    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.wire import WireRequest

# A forked child must not close its parent's channels, not even by garbage collection: the service would be told so over
# the parent's own connection. This set keeps them alive.
_open: Final[set[Any]] = set()
_CLOSE_TIMEOUT: Final = 5.0
"""Seconds that a connection may take to be closed."""


class GrpcTransport:
    """Carry calls to one service over as many connections as their number needs, usually one.

    Each call has a thread of its own while it lasts, see `cosyclient.transports.grpc.reply`. A forked child needs a
    transport of its own, and a fork is best made while no calls are under way.
    """

    def __init__(
        self,
        settings: ResolvedConfig,
        *,
        clock: Clock,  # noqa: ARG002 - made like the other transports; grpcio has its own clock
        network: Network | None = None,
    ) -> None:
        wire, timeouts = settings.config.wire, settings.config.timeouts
        network = network or resolve_network(settings)
        self.target, secure = target_of(settings.base_url)
        # Named in errors: grpcio's own messages do not mention the proxy.
        self.destination = self.target if network.proxy is None else f"{self.target} through the proxy {network.proxy}"
        self._options = options(wire, connect=timeouts.connect, user_agent=user_agent(), proxy=network.proxy)
        self._credentials = grpc.ssl_channel_credentials(network.root_certificates) if secure else None
        self._metadata: list[tuple[str, str]] = []
        if settings.api_key is not None:
            self._metadata.append(("authorization", settings.api_key.bearer()))
        self.max_reply_bytes = wire.max_reply_bytes
        self._limit = max(1, -(-settings.sizing.connections // STREAMS))

        self._owner = os.getpid()
        self._lock = threading.Lock()
        # Guarded by _lock: the calls under way on each channel.
        self._channels: dict[Any, set[GrpcReply]] = {}
        self.closed = False

    def send(
        self,
        request: WireRequest,
        *,
        deadline: Deadline,
        read_timeout: float,
        cancellation: Cancellation | None = None,
    ) -> GrpcReply:
        """Call the method that is *request*'s path with its body; return as soon as the service answers.

        Raises `ConnectFailed`, `AttemptTimeout`, `TransportError`, `DeadlineExceeded` or `ClientClosed`. A status that
        the service itself answers with is raised by the reply's ``chunks``.
        """
        if os.getpid() != self._owner:
            raise RuntimeError("a gRPC transport cannot be used after fork(); make one in the child")
        remaining = deadline.remaining
        if not remaining:
            raise DeadlineExceeded("the deadline passed before the request was sent")
        reply = GrpcReply(self, deadline, read_timeout, cancellation)
        metadata = [(name.lower(), value) for name, value in replace_headers(self._metadata, request.headers)]
        try:
            reply.start(
                lambda: self._assign_channel(reply).unary_stream(request.path)(
                    request.body, timeout=remaining, metadata=metadata
                )
            )
        except ValueError as error:
            # grpcio raises it for a channel that another thread has closed, and for metadata it cannot send.
            reply.close()
            if self.closed:
                raise ClientClosed("the transport is closed") from error
            raise TransportError(
                f"the request cannot be sent; {error}", sent=False, retryable=False, endpoint_fault=False
            ) from error
        except BaseException:
            reply.close()
            raise
        return reply

    def stats(self) -> PoolStats:
        """Return a snapshot of the connections, and of the calls they carry as ``streams``."""
        with self._lock:
            busy = [calls for calls in self._channels.values() if calls]
            return PoolStats(
                in_use=len(busy),
                idle=len(self._channels) - len(busy),
                opened=len(self._channels),
                limit=self._limit,
                streams=sum(map(len, busy)),
            )

    def close(self, *, wait: bool = True) -> None:
        """Close every connection and wake the threads that read from one; a second call does nothing.

        Without *wait* it returns at once, and the connections are closed meanwhile.
        """
        if os.getpid() != self._owner:
            return
        with self._lock:
            self.closed = True
            channels = list(self._channels)
        closed = [run_uninterrupted(channel.close) for channel in channels]
        _open.difference_update(channels)
        if wait:
            for each in closed:
                each.acquire(timeout=_CLOSE_TIMEOUT)

    def _assign_channel(self, reply: GrpcReply) -> Any:
        """Return the channel for one more call: the one with the fewest calls, or a new one when all are full."""
        with self._lock:
            if self.closed:
                raise ClientClosed("the transport is closed")
            channel = min(self._channels, key=lambda each: len(self._channels[each]), default=None)
            if channel is None or (len(self._channels[channel]) >= STREAMS and len(self._channels) < self._limit):
                channel = self._make_channel()
                self._channels[channel] = set()
                _open.add(channel)
            self._channels[channel].add(reply)
            return channel

    def _make_channel(self) -> Any:
        # It connects when it is first used.
        if self._credentials is None:
            return grpc.insecure_channel(self.target, self._options)
        return grpc.secure_channel(self.target, self._credentials, self._options)

    def end_call(self, reply: GrpcReply) -> None:
        """Remove the call of *reply* from its channel; a second call does nothing."""
        with self._lock:
            for calls in self._channels.values():
                calls.discard(reply)

    def __del__(self) -> None:
        if getattr(self, "_channels", None) and not self.closed:
            self.close(wait=False)  # the thread that collects garbage must not wait

    def __repr__(self) -> str:
        stats = self.stats()
        state = "closed" if self.closed else f"{stats.streams} calls on {stats.opened} of {stats.limit} connections"
        return f"<GrpcTransport {self.target}, {state}>"

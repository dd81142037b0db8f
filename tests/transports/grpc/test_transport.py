"""`GrpcTransport` and `GrpcReply` over real connections: messages, timeouts, cancellation, counts and closing."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING

import pytest

from cosyclient.config import ClientConfig, TimeoutConfig
from cosyclient.errors import (
    ClientClosed,
    ConnectFailed,
    Throttled,
    TransportError,
)
from cosyclient.transports.base import PoolStats
from cosyclient.transports.grpc import transport as transport_module
from tests.transports.grpc_wire import PATIENCE, Script, ask, made, sent, serving

if TYPE_CHECKING:
    from cosyclient.transports.grpc.transport import GrpcTransport


def test_messages_are_carried_both_ways_with_their_metadata(transport: GrpcTransport, script: Script) -> None:
    """Key, headers and deadline reach the service; its metadata is looked up without regard to case."""
    reply = sent(transport, "Echo", b"\0hello", seconds=60.0, X_Request_Id="key-1")
    assert (reply.status, reply.headers["X-Request-Id"], reply.headers.get("x-none")) == (200, "r-1", None)
    assert "x-bin" not in reply.headers
    assert list(reply.chunks()) == [b"\0hello"]
    assert script.requests[-1] == b"\0hello"
    metadata = script.metadata[-1]
    assert (metadata["authorization"], metadata["x_request_id"]) == ("Bearer s3cret-key", "key-1")
    assert metadata["user-agent"].startswith("cosyclient/")
    assert 30.0 < (script.timeouts[-1] or 0.0) <= 61.0  # gRPC rounds up what it sends
    assert "s3cret" not in repr(transport)


def test_calls_share_a_connection_and_are_counted(transport: GrpcTransport, script: Script) -> None:
    """As many as one connection carries."""
    assert transport.stats() == PoolStats(limit=1)
    replies = [sent(transport, "Part") for _ in range(5)]
    assert transport.stats() == PoolStats(in_use=1, opened=1, limit=1, streams=5)
    assert repr(transport).endswith("5 calls on 1 of 1 connections>")
    for reply in replies:
        reply.close()
        reply.close()
    for _ in replies:
        assert script.left.acquire(timeout=PATIENCE)
    assert transport.stats() == PoolStats(idle=1, opened=1, limit=1)


def test_another_connection_is_made_when_all_are_full(
    service: tuple[str, Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more than the number of calls needs."""
    monkeypatch.setattr(transport_module, "STREAMS", 2)
    several = made(service[0], connections=5)
    replies = [sent(several, "Part") for _ in range(4)]
    assert several.stats() == PoolStats(in_use=2, opened=2, limit=3, streams=4)
    replies += [sent(several, "Part") for _ in range(4)]
    assert several.stats() == PoolStats(in_use=3, opened=3, limit=3, streams=8)
    several.close()


def test_closing_wakes_the_reading_thread(service: tuple[str, Script], script: Script) -> None:
    """With `ClientClosed`; afterwards nothing is sent."""
    closing = made(service[0])
    pieces = sent(closing, "Part").chunks()
    assert next(pieces) == b"part"
    threading.Timer(0.05, closing.close).start()
    with pytest.raises(ClientClosed):
        next(pieces)
    closing.close()
    with pytest.raises(ClientClosed):
        ask(closing, "Echo")
    assert repr(closing).endswith("closed>")


def test_a_garbage_collected_transport_closes_its_connections(service: tuple[str, Script]) -> None:
    """Nothing is kept for it."""
    before = len(transport_module._open)
    forgotten = made(service[0])
    assert ask(forgotten, "Echo") == [b"hello"]
    assert len(transport_module._open) == before + 1
    del forgotten
    gc.collect()
    assert len(transport_module._open) == before


def test_a_services_limit_of_concurrent_calls_is_a_throttle() -> None:
    """Its words tell it from a message that is too large."""
    with serving(most=2) as (url, _):
        limited = made(url)
        replies = [sent(limited, "Part") for _ in range(2)]
        with pytest.raises(Throttled, match="Concurrent RPC limit exceeded!") as caught:
            ask(limited, "Echo")
        assert (caught.value.retryable, caught.value.throttled, caught.value.endpoint_fault) == (True, True, False)
        for reply in replies:
            reply.close()
        limited.close()


def test_a_service_that_does_not_listen_is_a_connect_failure() -> None:
    """Nothing was sent then."""
    down = made("grpc://127.0.0.1:1", config=ClientConfig(timeouts=TimeoutConfig(connect=0.5)))
    with pytest.raises(ConnectFailed, match=r"^127\.0\.0\.1:1: ") as caught:
        ask(down, "Echo")
    assert (caught.value.sent, caught.value.retryable, caught.value.endpoint_fault) == (False, True, True)
    down.close()


def test_a_service_that_goes_away_ends_its_calls_with_a_transport_error() -> None:
    """As a broken connection does."""
    with serving() as (url, _):
        left = made(url)
        pieces = sent(left, "Part").chunks()
        assert next(pieces) == b"part"
    with pytest.raises(TransportError) as caught:
        next(pieces)
    assert (caught.value.sent, caught.value.retryable) == (True, True)
    left.close()


def test_metadata_that_cannot_be_sent_is_a_final_error() -> None:
    """A retry would fail alike."""
    with serving() as (url, _):
        transport = made(url)
        with pytest.raises(TransportError) as caught:
            ask(transport, "Echo", X_Bad="line\nbreak")
        assert (caught.value.sent, caught.value.retryable, caught.value.endpoint_fault) == (False, False, False)
        assert transport.stats().streams == 0
        transport.close()

"""What the gRPC APIs share: admission, statuses, faults, and counting each call."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc

from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.faults import injection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from cosyclient.emulator.core.service import Service
    from cosyclient.emulator.faults.plan import Fault

TOO_MANY = "Concurrent RPC limit exceeded!"
TOO_LARGE = "{what} message larger than max ({size} vs. 4194304)"
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.UNAVAILABLE,
}


class GrpcApi:
    """Base of the gRPC APIs."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.service!r}>"

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """Return what answers each method."""
        raise NotImplementedError

    @asynccontextmanager
    async def call(self, data: bytes, context: Any) -> AsyncIterator[None]:
        """Count a call, admit it, and turn a Problem into its status."""
        counters, service = self.service.counters, self.service
        counters.start_request()
        counters.bytes_in += len(data)
        try:
            await service.delay_round_trip()
            service.check_ready()
            metadata = dict(context.invocation_metadata() or ())
            service.authorize(str(metadata.get("authorization", "")))
            service.take_token(_address(context.peer()))
            yield
            counters.replies[200] += 1
        except Problem as problem:
            counters.replies[problem.status] += 1
            await context.abort(*self.status(problem))
        finally:
            counters.end_request()

    def status(self, problem: Problem) -> tuple[grpc.StatusCode, str]:
        """Return the code and the details of a refusal."""
        code = _CODES.get(problem.status, grpc.StatusCode.INTERNAL)
        # The limit is grpcio's own, hence its message.
        return code, TOO_MANY if problem.status == 429 else problem.detail

    async def reply_of_fault(self, context: Any) -> tuple[bytes | None, Fault | None]:
        """Apply the next fault: return the bytes it answers instead of audio, or None, and the fault itself."""
        fault = self.service.draw_fault()
        match fault.name if fault else "":
            case "throttle" | "throttle_bare":
                raise Problem("rate_limited", TOO_MANY)
            case "error":
                assert fault is not None  # noqa: S101 - it has a name
                await asyncio.sleep(fault["after"])
                raise Problem("internal", "a fault was asked for", status=fault["status"])
            case "unavailable":
                raise Problem("unavailable", "no node is ready", status=503)
            case "hang":
                await _hang(fault)
            case "reset":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            case "html":
                await context.abort(grpc.StatusCode.UNKNOWN, "Received http2 header with status: 502")
            case "too_large":
                details = TOO_LARGE.format(what="Received", size=8 << 20)
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, details)
            case "garbage" | "noise":
                assert fault is not None  # noqa: S101 - it has a name
                return b"\xff" + self.service.rng.randbytes(fault["bytes"]), fault
            case "empty" | "bomb":
                return b"", fault
        return None, fault

    async def apply_to_samples(
        self, pieces: AsyncIterator[bytes], fault: Fault | None, context: Any
    ) -> AsyncIterator[bytes]:
        """Yield pieces of samples as they come, with *fault* applied."""
        name, count = (fault.name if fault else ""), 0
        if name == "not_audio":
            yield injection.PAGE
            return
        async for piece in pieces:
            match name:
                case "truncated_audio":
                    yield piece[: len(piece) // 40 * 2 + 1]
                    return
                case "cut":
                    assert fault is not None  # noqa: S101 - it has a name
                    yield piece[: max(2, int(len(piece) * fault["share"]) // 2 * 2)]
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
                case "hang_body":
                    half = len(piece) // 4 * 2
                    yield piece[:half]
                    await _hang(fault)
                    piece = piece[half:]
                case "model_error":
                    assert fault is not None  # noqa: S101 - it has a name
                    if count >= fault["after"]:
                        raise Problem("internal", "CUDA error: an illegal memory access was encountered")
            count += 1
            yield piece
        if name == "model_error":
            raise Problem("internal", "CUDA error: an illegal memory access was encountered")


async def _hang(fault: Fault | None) -> None:
    seconds = fault["seconds"] if fault else None
    await (asyncio.sleep(seconds) if seconds is not None else asyncio.Event().wait())


def _address(peer: str) -> str:
    """Return the address in ``ipv4:127.0.0.1:1234`` and its like."""
    return peer.partition(":")[2].rpartition(":")[0]

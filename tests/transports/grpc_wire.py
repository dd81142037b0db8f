"""A gRPC service that follows a script, for the transport's tests: what a method does is in its name."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from cosyclient.clock import Deadline, SystemClock
from cosyclient.config.resolve import resolve
from cosyclient.transports.grpc.transport import GrpcTransport
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosyclient.clock import Cancellation
    from cosyclient.config import ClientConfig
    from cosyclient.transports.grpc.reply import GrpcReply

PATIENCE = 20.0


class Script(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answer by the method's name; record what was sent and whether the client has gone."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.metadata: list[dict[str, Any]] = []
        self.timeouts: list[float | None] = []
        self.entered = threading.Semaphore(0)
        """Released once per call that hangs."""
        self.left = threading.Semaphore(0)
        """Released once per hanging call whose client is gone."""
        self.more = threading.Semaphore(0)
        """Acquired before each message of a stream but the first."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        name = handler_call_details.method.rpartition("/")[2].lower()
        act = getattr(self, f"_{name}", None)
        return grpc.unary_stream_rpc_method_handler(act) if act else None

    def _note(self, request: bytes, context: Any) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.timeouts.append(context.time_remaining())

    def _echo(self, request: bytes, context: Any) -> Iterator[bytes]:
        self._note(request, context)
        context.send_initial_metadata((("x-request-id", "r-1"), ("x-bin", b"\0\1")))
        yield request

    def _empty(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield from ()

    def _steps(self, request: bytes, context: Any) -> Iterator[bytes]:
        """Send a message for every release of ``more``, until the client has left."""
        yield b"first"
        for number in range(3):
            if not self.more.acquire(timeout=PATIENCE) or not context.is_active():
                return
            yield b"%d" % number

    def _hang(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield from self._until_gone(context)

    def _endless(self, request: bytes, context: Any) -> Iterator[bytes]:
        """Send empty messages until the client has left."""
        context.add_callback(self.left.release)
        while context.is_active():
            yield b""

    def _part(self, request: bytes, context: Any) -> Iterator[bytes]:
        # Watched before the message goes: a call that is off by then is never asked for another.
        gone = self._until_gone(context)
        yield b"part"
        yield from gone

    def _until_gone(self, context: Any) -> Iterator[bytes]:
        gone = threading.Event()

        def leave() -> None:
            self.left.release()
            gone.set()

        if not context.add_callback(leave):
            leave()
        self.entered.release()

        def wait() -> Iterator[bytes]:
            gone.wait(PATIENCE)
            yield from ()

        return wait()

    def _large(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield bytes(6 << 20)

    def _many(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield from (bytes(1000) for _ in range(10))

    def _fail(self, request: bytes, context: Any) -> Iterator[bytes]:
        """Fail as the request says, as ``CODE details``, after a message if it ends with one more word."""
        code, _, details = request.decode().partition(" ")
        if details.endswith("after"):
            yield b"before"
        context.abort(getattr(grpc.StatusCode, code), details)

    def _crash(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield b"before"
        raise RuntimeError("the model failed")


@contextmanager
def serving(credentials: grpc.ServerCredentials | None = None, most: int | None = None) -> Iterator[tuple[str, Script]]:
    """Serve a script, and give its address and itself."""
    script = Script()
    server = grpc.server(ThreadPoolExecutor(16), maximum_concurrent_rpcs=most)
    server.add_generic_rpc_handlers((script,))
    if credentials is None:
        url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    else:
        url = f"grpcs://127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    server.start()
    try:
        yield url, script
    finally:
        server.stop(None).wait()


def made(url: str, *, config: ClientConfig | None = None, connections: int = 8, **more: Any) -> GrpcTransport:
    """Return a transport for *url*."""
    settings = resolve(
        base_url=url,
        api_key=more.pop("api_key", "s3cret-key"),
        protocol=None,
        voice={},
        requests_per_second=100.0,
        max_connections=connections,
        concurrency=connections,
        max_batch=1,
        timeout=None,
        max_retries=0,
        config=config,
        environ={},
    )
    return GrpcTransport(settings, clock=SystemClock(), **more)


def sent(
    transport: GrpcTransport,
    method: str,
    body: bytes = b"hello",
    *,
    seconds: float = PATIENCE,
    read_timeout: float = PATIENCE,
    cancellation: Cancellation | None = None,
    **headers: str,
) -> GrpcReply:
    """Call a method of the script."""
    request = WireRequest(method="POST", path=f"/script.Script/{method}", headers=tuple(headers.items()), body=body)
    deadline = Deadline.after(SystemClock(), seconds)
    return transport.send(request, deadline=deadline, read_timeout=read_timeout, cancellation=cancellation)


def ask(transport: GrpcTransport, method: str, body: bytes = b"hello", **more: Any) -> list[bytes]:
    """Return all messages that a call is answered with."""
    return list(sent(transport, method, body, **more).chunks())

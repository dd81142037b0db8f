"""What the APIs with one text per HTTP request share: admission, refusals, faults, and audio piece by piece."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from cosyclient.emulator.apis.forms import Invalid
from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.faults import injection
from cosyclient.emulator.server.exchange import Exchange, Receive, Scope, Send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from cosyclient.emulator.core.service import Service
    from cosyclient.emulator.faults.plan import Fault

JSON = "application/json"


class NotAllowed(Problem):
    """Refuse a method, naming the one that is."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that go with the document."""
        return [*super().headers(), (b"allow", b"POST")]

    def __init__(self) -> None:
        super().__init__("method_not_allowed", "Method Not Allowed")


class HttpApi:
    """Base of the APIs over HTTP, which answer in `serve`; used on one event loop."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.service!r}>"

    def routes(self) -> list[BaseRoute]:
        """Return the routes it answers."""
        raise NotImplementedError

    def reset(self) -> None:
        """Drop what was kept since the start."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(scope, receive, send, self.service.counters, gzip=self.service.settings.gzip)
        self.service.counters.start_request()
        try:
            await self.admit(exchange, scope)
            await self.serve(exchange, scope)
        except Problem as problem:
            await self.refuse(exchange, problem)
        except ConnectionResetError:
            pass  # the client has disconnected
        finally:
            self.service.counters.end_request()

    async def admit(self, exchange: Exchange, scope: Scope) -> None:
        """Admit a request; raises the Problem of one that is refused."""
        del scope
        await self.service.admit(exchange)

    async def serve(self, exchange: Exchange, scope: Scope) -> None:
        """Answer a request that was admitted."""
        raise NotImplementedError

    async def refuse(self, exchange: Exchange, problem: Problem) -> None:
        """Refuse the request as this server does."""
        await exchange.reply(problem.status, JSON, encoded(self.error_document(problem)), problem.headers())

    def error_document(self, problem: Problem) -> Any:
        """Return the document of a refusal; FastAPI's unless a server has its own."""
        return {"detail": problem.faults if isinstance(problem, Invalid) else problem.detail}

    async def apply_early_fault(self, exchange: Exchange) -> tuple[bool, Fault | None]:
        """Draw a fault; return whether it was answered already, and the fault itself."""
        fault = self.service.draw_fault()
        return bool(fault and await injection.answer_with(exchange, fault, self.service.rng)), fault

    async def send_whole(self, exchange: Exchange, fault: Fault | None, media_type: str, body: bytes) -> None:
        """Send a finished reply, with the fault applied to its delivery."""
        if fault and injection.affects_delivery(fault):
            await injection.apply_to_delivery(exchange, fault, media_type, body)
        else:
            await exchange.reply(200, media_type, body)

    async def send_pieces(
        self, exchange: Exchange, fault: Fault | None, media_type: str, pieces: AsyncIterator[bytes]
    ) -> None:
        """Send pieces as they come, until the client disconnects; an empty media type sends no header."""
        if fault and injection.affects_delivery(fault):
            await injection.apply_to_delivery(exchange, fault, media_type, b"".join([piece async for piece in pieces]))
            return
        head = [(b"content-type", media_type.encode())] if media_type else []
        await exchange.start(200, [*head, *exchange.headers])
        left = asyncio.ensure_future(exchange.wait_for_disconnect(None))
        try:
            while (piece := await _unless(left, anext(pieces, b""))) is not None:
                await exchange.write(piece, last=not piece)
                if not piece:
                    return
        except Problem:
            # The status is sent: all that is left is to end without the last chunk.
            await exchange.close_connection()
        finally:
            left.cancel()


async def _unless(left: asyncio.Future[bool], coming: Awaitable[bytes]) -> bytes | None:
    """Return the result of *coming*, or None as soon as the client has *left*."""
    task = asyncio.ensure_future(coming)
    both: set[asyncio.Future[Any]] = {task, left}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        return None
    return task.result()


def openapi_route(paths: Iterable[str], below: str = "") -> Route:
    """Return the route of FastAPI's ``openapi.json``, by which a client recognises a server."""
    document = {"openapi": "3.1.0", "info": {"title": "FastAPI", "version": "0.1.0"}, "paths": {p: {} for p in paths}}

    async def describe(_request: Request) -> Response:
        return JSONResponse(document)

    return Route(f"{below}/openapi.json", describe)


async def apply_to_samples(pieces: AsyncIterator[bytes], fault: Fault | None) -> AsyncIterator[bytes]:
    """Yield samples with *fault* applied: replaced by text, silenced, or cut to a twentieth of a piece and a byte."""
    name = fault.name if fault else ""
    if name == "not_audio":
        yield injection.PAGE
        return
    async for piece in pieces:
        if name == "truncated_audio":
            yield piece[: len(piece) // 40 * 2 + 1]
            return
        yield bytes(len(piece)) if name == "silent_audio" else piece


def encoded(document: Any) -> bytes:
    """Return a JSON document as bytes."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body is; Problem otherwise."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem("malformed_json", "the body is not JSON") from error
    if not isinstance(document, dict):
        raise Problem("malformed_json", "the body is not a JSON object")
    return document

"""Build the ASGI application: the routes of the APIs, health, metrics and the emulator's control pages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cosyclient.emulator.apis import FAMILIES, build_apis
from cosyclient.emulator.core.counters import prometheus
from cosyclient.emulator.core.problems import Problem, code_of
from cosyclient.emulator.faults.plan import Fault
from cosyclient.emulator.speech.voices import DEFAULT_MODEL, MODELS, VOICES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from cosyclient.emulator.core.service import Service


def build_app(service: Service) -> Starlette:
    """Return the ASGI application around a service."""
    served = build_apis(service)

    async def health(_request: Request) -> Response:
        service.check_ready()
        return JSONResponse(
            {
                "status": "ok",
                "engine": service.settings.engine,
                "model": DEFAULT_MODEL,
                "models": list(MODELS),
                "voices": list(VOICES),
            }
        )

    async def metrics(_request: Request) -> Response:
        return PlainTextResponse(prometheus(service.counts()), media_type="text/plain; version=0.0.4")

    async def counters(_request: Request) -> Response:
        return JSONResponse(_with_string_keys(service.counts()))

    async def reset(_request: Request) -> Response:
        service.reset()
        for api in served:
            api.reset()
        return JSONResponse({})

    async def inject(request: Request) -> Response:
        try:
            document = json.loads(await request.body())
            fault = Fault(document["fault"], document.get("params") or {})
            service.faults.inject(fault, document.get("count", 1))
        except (KeyError, TypeError, AttributeError) as error:
            raise Problem("validation_failed", 'expected {"fault": name, "count": n, "params": {…}}') from error
        except ValueError as error:
            raise Problem("validation_failed", str(error)) from error
        return JSONResponse({})

    async def gpus(request: Request) -> Response:
        try:
            service.set_gpus(**json.loads(await request.body()))
        except TypeError as error:
            raise Problem("validation_failed", 'expected {"gpus": n, "rtf": x}') from error
        except ValueError as error:
            raise Problem("validation_failed", str(error)) from error
        return JSONResponse({})

    async def received(_request: Request) -> Response:
        return JSONResponse(list(service.received))

    def guarded(page: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guard(request: Request) -> Response:
            service.authorize(request.headers.get("authorization", ""))
            return await page(request)

        return guard

    routes = [
        *(route for api in served for route in api.routes()),
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/_emulator/counters", guarded(counters)),
        Route("/_emulator/received", guarded(received)),
        Route("/_emulator/reset", guarded(reset), methods=["POST"]),
        Route("/_emulator/faults", guarded(inject), methods=["POST"]),
        Route("/_emulator/gpus", guarded(gpus), methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused, Problem: _refused, Exception: _broken})
    # A server that is alone answers a wrong path as its framework does.
    serve = service.settings.serve
    app.state.fastapi = serve in FAMILIES and FAMILIES[serve].fastapi
    return app


def _with_string_keys(counts: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {str(key): count for key, count in value.items()} if isinstance(value, dict) else value
        for name, value in counts.items()
    }


def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        headers = error.headers
        if request.app.state.fastapi:
            return JSONResponse({"detail": str(error.detail)}, error.status_code, dict(headers or {}))
        error = Problem(code_of(error.status_code), str(error.detail), status=error.status_code)
    else:
        headers = None
    assert isinstance(error, Problem)  # noqa: S101 - the handlers above name these two types
    return _document(request, error, dict(headers or {}))


def _broken(request: Request, error: Exception) -> Response:
    # The server logs the traceback after this reply is sent.
    return _document(request, Problem("internal", f"the emulator failed: {type(error).__name__}"), {})


def _document(request: Request, problem: Problem, headers: dict[str, str]) -> Response:
    headers |= {name.decode(): value.decode() for name, value in problem.headers()}
    if request_id := request.headers.get("x-request-id"):
        headers["x-request-id"] = request_id
    body = problem.document(request.url.path)
    return Response(body, problem.status, headers, media_type="application/problem+json")

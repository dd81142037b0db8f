"""Hints in errors: the address that was asked, where the key came from, and what to set instead."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cosyclient.errors import ConnectFailed, DecodeError, Forbidden, NotFound, ServiceError, Unauthorized
from cosyclient.wire import join_url

if TYPE_CHECKING:
    from cosyclient.errors import CosyError
    from cosyclient.wire import WireRequest

_METHOD_NOT_ALLOWED: Final = 405
_NO_SUCH_ROUTE: Final = frozenset({None, "not_found", "NotFound", "UNIMPLEMENTED"})
# How a decoder's error begins when the whole reply is of another protocol.
_OTHER: Final = "HTTP "
_MOST: Final = 300
# What OpenSSL and grpcio say of a server that speaks another protocol.
_SIGNS: Final = (
    ("WRONG_VERSION_NUMBER", "what answers there speaks no TLS; if that is meant, write http:// (ws://, grpc://)"),
    (
        "http1.x server",
        "what answers there is no gRPC server; write its own scheme, and name its protocol= if it has one",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorHints:
    """Add to errors what the service cannot say: which address was asked, with which key, and what to do next."""

    base_url: str
    protocol: str
    key_source: str
    """Where the API key came from; empty without one."""
    key_names: tuple[str, ...]
    """The arguments and variables that set it."""

    def add(self, error: CosyError, request: WireRequest) -> None:
        """Add a hint to the message of *error*, which the attempt with *request* failed with."""
        hint = ""
        if isinstance(error, (Unauthorized, Forbidden)):
            hint = self._about_the_key(error, request)
            if request.new_session is not None:
                # Starlette's answer to a WebSocket that it has no route for, too.
                hint = f"{hint}; {self._asked(request)}; {self._next()}"
        elif isinstance(error, ConnectFailed):
            hint = next((text for sign, text in _SIGNS if sign in str(error)), "")
        elif isinstance(error, ServiceError):
            lost = isinstance(error, NotFound) or error.status == _METHOD_NOT_ALLOWED
            if lost and error.code in _NO_SUCH_ROUTE:
                hint = f"{self._asked(request)}; {self._next()}"
            elif lost:
                hint = self._asked(request)
        elif isinstance(error, DecodeError) and str(error).startswith(_OTHER):
            hint = f"{self._asked(request)}; {self._next()}"
        if hint:
            error.args = (f"{error}; {hint}",)

    def _asked(self, request: WireRequest) -> str:
        where = join_url(self.base_url, request.path)
        return f"the request was {request.method} {where if len(where) <= _MOST else where[: _MOST - 1] + '…'}"

    def _next(self) -> str:
        return (
            f"if {self.protocol} is not what is spoken there, name another with protocol=, or find out with: "
            f"cosyclient doctor --url {shlex.quote(self.base_url)}"
        )

    def _about_the_key(self, error: ServiceError, request: WireRequest) -> str:
        if any(name.lower() == "authorization" for name, _ in request.headers):
            return "the Authorization header among headers= was sent"
        if self.key_source:
            return f"the key that was sent came from {self.key_source}"
        ways = f"pass api_key=, or set {' or '.join(self.key_names)}"
        return f"no API key was sent; {ways}" if isinstance(error, Unauthorized) else f"without an API key; {ways}"

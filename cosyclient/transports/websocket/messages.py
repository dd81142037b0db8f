"""Assemble messages from the frames of a WebSocket, and the exceptions of its two endings."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from websockets.frames import Opcode

if TYPE_CHECKING:
    from websockets.frames import Frame
    from websockets.http11 import Response

ABNORMAL_CLOSURE: Final = 1006
"""The code of a connection that ended without a close frame (RFC 6455, 7.1.5)."""


class ConnectionClosed(ConnectionError):
    """Report that the service closed the connection, with its close code."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"the service closed the connection{f' ({reason})' if reason else ''}, code {code}")
        self.code = code


class HandshakeRefused(Exception):
    """Carry the HTTP reply of a service that refused to open a WebSocket."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"HTTP {response.status_code}")
        self.response = response


class MessageAssembler:
    """Turn frames into messages, which wait in ``messages`` until they are read."""

    def __init__(self) -> None:
        self.messages: deque[str | bytes] = deque()
        # One buffer, so that a million empty frames of one message take no memory.
        self._parts = bytearray()
        self._is_text = self._incomplete = False

    def add(self, frame: Frame) -> None:
        """Add *frame*; the last one of a message completes it."""
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        self._incomplete = not frame.fin
        if self._incomplete or self._parts:
            self._parts += frame.data
        if frame.fin:
            data = bytes(self._parts or frame.data)
            self._parts.clear()
            self.messages.append(data.decode("utf-8", "replace") if self._is_text else data)

    def __bool__(self) -> bool:
        """Return whether there is a message, or part of one."""
        return bool(self.messages) or self._incomplete

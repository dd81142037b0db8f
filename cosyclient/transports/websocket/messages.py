"""What a WebSocket's wire says: messages made of frames, and the ways it says no."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from websockets.frames import Opcode

if TYPE_CHECKING:
    from websockets.frames import Frame
    from websockets.http11 import Response

WORDLESS: Final = 1006
"""The code of a connection that was closed without one."""


class Closed(ConnectionError):
    """Tell that the service closed the connection, with which code: 1006 if it did so without a word."""

    def __init__(self, code: int, why: str = "") -> None:
        super().__init__(f"the service closed the connection{f' ({why})' if why else ''}, code {code}")
        self.code = code


class Refused(Exception):
    """Carry the HTTP reply of a service that would not open a WebSocket."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"HTTP {response.status_code}")
        self.response = response


class Inbox:
    """Make messages of frames."""

    def __init__(self) -> None:
        self.messages: deque[str | bytes] = deque()
        # One buffer, so that a million empty frames of one message take no room.
        self._parts = bytearray()
        self._text = self._open = False

    def take(self, frame: Frame) -> None:
        """Add *frame*; the last of a message makes it whole."""
        if frame.opcode is not Opcode.CONT:
            self._text = frame.opcode is Opcode.TEXT
        self._open = not frame.fin
        if self._open or self._parts:
            self._parts += frame.data
        if frame.fin:
            data = bytes(self._parts or frame.data)
            self._parts.clear()
            self.messages.append(data.decode("utf-8", "replace") if self._text else data)

    def __bool__(self) -> bool:
        return bool(self.messages) or self._open

"""What the clients that send one text a request share: the request's body, and the audio in a reply."""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from typing import Final

HEADERS: Final = {"Content-Type": "application/json", "Accept": "application/json"}
PATH: Final = "/batch"
TIMEOUT: Final = 30.0


class HttpStatus(Exception):
    """Report a reply whose status is not 200."""


class SingleTextClient(ABC):
    """Send one text a request, over at most *connections* connections; safe to call from many threads."""

    def __init__(self, base_url: str, *, format: str, connections: int) -> None:
        self.base_url = base_url
        self.format = format
        self.connections = connections

    def synthesize(self, text: str) -> bytes:
        """Return the audio of *text*."""
        return audio(self.fetch(text))

    @abstractmethod
    def fetch(self, text: str) -> bytes:
        """Return the body of the reply to *text*; raise `HttpStatus`, or what the library says."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url}, {self.connections} connections>"


def request_body(text: str, format: str) -> bytes:
    """Return the body of a request for one text."""
    return json.dumps({"texts": [text], "format": format}).encode()


def audio(body: bytes) -> bytes:
    """Return the audio in the body of a reply: JSON, base64."""
    return base64.b64decode(json.loads(body)["results"][0]["audio_data"])

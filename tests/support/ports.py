"""Ports for services that stop and start again."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Final

_NEVER_ASSIGNED: Final = range(18_000, 32_000)
"""Below the ports that the system assigns where none is asked for (Linux: 32768 and up; IANA: 49152 and up)."""


def quiet_port() -> int:
    """Return a port on which nothing listens, and which no other test is assigned while a service is down."""
    for port in random.sample(_NEVER_ASSIGNED, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a hundred ports, all of them taken")

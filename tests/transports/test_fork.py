"""A fork with open connections: parent and child each open their own, and no reply reaches the other."""

from __future__ import annotations

import gc
import os
import ssl
import sys
from typing import TYPE_CHECKING

import pytest
import trustme

from cosyclient.config import ClientConfig, WireConfig
from tests.support.hostile import echoes, hostile
from tests.transports.wire import ask, made, request, sent

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 60


def _in_child(work: Callable[[], bool]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_parent_and_child_of_a_fork_get_their_own_replies(secure: bool) -> None:
    """The child drops the parent's transport without closing it, and makes its own."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    config = ClientConfig(wire=WireConfig(verify=trusted))

    with hostile(echoes(), tls=server if secure else None) as service:
        holder = {"transport": made(service.url, config=config)}
        # Four warm connections, of which one is in the middle of a reply when the fork comes.
        warm = [sent(holder["transport"], request(X_Tag="warm")) for _ in range(4)]
        for answer in warm[1:]:
            assert b"".join(answer.chunks()) == b"warm|{}"

        def rounds(side: str) -> bool:
            return all(
                ask(holder["transport"], request(side.encode(), X_Tag=f"{side}{number}"))
                == (200, f"{side}{number}|{side}".encode())
                for number in range(ROUNDS)
            )

        def child() -> bool:
            warm.clear()
            holder["transport"] = made(service.url, config=config)
            gc.collect()
            return rounds("child")

        pid = _in_child(child)
        assert rounds("parent")
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert b"".join(warm[0].chunks()) == b"warm|{}"
        assert holder["transport"].stats().opened == 4, "the parent's connections must have outlived the child's drop"
        holder["transport"].close()


def test_the_parents_transport_refuses_to_be_used_in_the_child() -> None:
    """An error, not another caller's audio."""
    with hostile(echoes()) as service:
        transport = made(service.url)
        ask(transport)

        def child() -> bool:
            try:
                ask(transport)
            except RuntimeError as error:
                return "fork" in str(error)
            return False

        _, status = os.waitpid(_in_child(child), 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert ask(transport)[0] == 200
        assert service.seen == 1
        transport.close()

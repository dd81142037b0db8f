"""One scripted gRPC service for the suites of the gRPC transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.transports.grpc_wire import Script, made, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosyclient.transports.grpc.transport import GrpcTransport


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[str, Script]]:
    """Serve one script to all tests."""
    with serving() as found:
        yield found


@pytest.fixture
def script(service: tuple[str, Script]) -> Script:
    """Return the script."""
    return service[1]


@pytest.fixture
def transport(service: tuple[str, Script]) -> Iterator[GrpcTransport]:
    """Return a transport of its own."""
    own = made(service[0])
    yield own
    own.close()

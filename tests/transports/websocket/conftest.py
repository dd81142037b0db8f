"""Close the transports that a WebSocket test has made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.transports.websocket_wire import MADE

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()

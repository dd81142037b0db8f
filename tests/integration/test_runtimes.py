"""Where it is not quite a plain interpreter: at the very end of one, and where it was patched for greenlets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import waiting
from tests.support.waiting import finish

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.emulator import Emulator


@pytest.mark.parametrize("scheme", ["http", "ws", "grpc"])
def test_an_exit_handler_may_call(scheme: str, start: Callable[..., Emulator]) -> None:
    """Whatever other exit handlers have closed by then."""
    service = start(engine="echo", grpc=True)
    url = service.grpc_url if scheme == "grpc" else service.url.replace("http", scheme, 1)
    code, output, errors = finish(waiting.start("at_exit", scheme, url))
    assert (code, output.splitlines(), errors) == (0, ["hello", "goodbye", "and thanks"], "")


def test_a_platform_without_poll_is_supported(echo: Emulator) -> None:
    """Connections are found fit to be used again, and waited for, as elsewhere."""
    code, output, errors = finish(waiting.start("without_poll", echo.url))
    assert (code, output.splitlines(), errors) == (0, 2 * ["['one', 'two'] over 1"], "")


def test_greenlets_can_call(echo: Emulator) -> None:
    """Under gunicorn's gevent worker a client is shared by greenlets instead of threads."""
    code, output, errors = finish(waiting.start("green", echo.url))
    assert (code, output) == (0, "the end\n"), errors

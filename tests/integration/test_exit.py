"""The interpreter ends when the script does: nothing to close, nothing to wait for, and Ctrl-C works everywhere."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import eventually, finish, start

if TYPE_CHECKING:
    from cosyclient.emulator import Emulator


@pytest.mark.parametrize("texts", [0, 1, 500])
def test_a_script_may_end_without_closing_its_client(echo: Emulator, texts: int) -> None:
    code, output, errors = finish(start("fall_off", str(texts), COSYCLIENT_BASE_URL=echo.url))
    assert (code, errors) == (0, "")
    received = output.splitlines()
    received.remove("the end")
    assert sorted(received) == sorted(f"text {number}" for number in range(texts))


# "bare", "many" and "as-finished" close nothing: giving up a text breaks its attempt off, so no worker is left reading.
# A future of `submit` stays wanted, as any executor's does; its program closes the client.
@pytest.mark.parametrize("way", ["with", "close", "bare", "many", "as-finished"])
def test_ctrl_c_ends_a_blocked_call(echo: Emulator, way: str) -> None:
    echo.inject("hang", count=10)
    script = start("blocked", way, COSYCLIENT_BASE_URL=echo.url)
    try:
        eventually(lambda: echo.counters().in_flight, "the service hangs")
        script.send_signal(signal.SIGINT)
    finally:
        code, output, errors = finish(script)
    assert code == -signal.SIGINT, errors
    assert output == ""
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback") == 1


def test_daemon_threads_in_calls_do_not_keep_the_interpreter_alive(echo: Emulator) -> None:
    code, output, errors = finish(start("daemons", COSYCLIENT_BASE_URL=echo.url))
    assert (code, output, errors) == (0, "the end\n", "")


def test_threads_that_outlive_the_main_thread_lose_nothing(echo: Emulator) -> None:
    """Pools refuse new threads by then: retries, bulk calls and futures go on, on threads of our own."""
    echo.inject("error", status=503, count=5)
    code, output, errors = finish(start("after_main", COSYCLIENT_BASE_URL=echo.url))
    assert (code, output.split(), errors) == (0, ["200", "200", "50", "20"], "")

"""The interpreter ends when the script does: nothing to close, nothing to wait for, and Ctrl-C works everywhere."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.integration.waiting import eventually, finish, start

if TYPE_CHECKING:
    from cosyclient.emulator import Emulator


@pytest.mark.parametrize("texts", [0, 1, 500])
def test_a_script_may_fall_off_its_end(echo: Emulator, texts: int) -> None:
    code, output, errors = finish(start("fall_off", str(texts), COSYCLIENT_BASE_URL=echo.url))
    assert (code, errors) == (0, "")
    heard = output.splitlines()
    heard.remove("the end")
    assert sorted(heard) == sorted(f"text {number}" for number in range(texts))


# The interpreter waits for the client's worker, which waits for the first byte of a reply nobody wants any more:
# 7 s after Ctrl-C with the default first_byte, 25 s for a future, as these run it ten minutes.
STILL_READS = pytest.mark.xfail(run=False, reason="a worker goes on reading after Ctrl-C unless the client is closed")


@pytest.mark.parametrize(
    "way",
    [
        "with",
        "close",
        pytest.param("bare", marks=STILL_READS),
        pytest.param("many", marks=STILL_READS),
        pytest.param("as-finished", marks=STILL_READS),
        pytest.param("future", marks=STILL_READS),
    ],
)
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

"""Fork in the midst of work, and the child once more; all three go on with the client they have."""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from cosyclient import ClientStats, CosyClient, CosyError
from cosyclient.emulator import echo_text, running
from tests.integration.programs.calling import wrong_answers
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from cosyclient import Outcome, Speech

CALLS = 60


def in_child(report: Callable[[], Any]) -> tuple[int, int]:
    """Fork; return the child's pid and a pipe from which to read its report."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    code = 1
    try:
        os.write(writer, json.dumps(report()).encode())
        code = 0
    except BaseException:  # noqa: BLE001 - the child ends here, whatever it was
        traceback.print_exc()
    finally:
        os._exit(code)


def gathered(pid: int, reader: int) -> Any:
    """Return what the child reported, once it has ended well."""
    with os.fdopen(reader, "rb") as pipe:
        report = json.load(pipe)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return report


def main() -> None:
    """Print one report per generation."""
    told: list[int] = []

    def on_done(_: Outcome) -> None:
        told.append(os.getpid())

    def generation(pending: list[Future[Speech]], children: int) -> dict[str, Any]:
        before = {"clean": client.stats() == ClientStats(), "pending": [_ending(each) for each in pending]}
        below = None
        if children:
            # The grandchild is made while this process has threads and sockets of its own again.
            below = in_child(lambda: generation([client.submit("of the child")], children - 1))
        after = {
            "wrong": wrong_answers(client, CALLS),
            "narrow": echo_text(narrow.synthesize("x").audio),
            "told": told,
            "below": gathered(*below) if below else None,
        }
        client.close()
        narrow.close()
        return before | after

    with (
        running(engine="echo") as emulator,
        CosyClient(emulator.url, requests_per_second=1000) as client,
        CosyClient(emulator.url, concurrency=1, max_batch=1) as narrow,
    ):
        assert wrong_answers(client, CALLS) == []
        assert client.stats().pool.idle
        emulator.inject("hang", seconds=1.0)
        under_way = narrow.submit("under way", on_done=on_done)
        queued = narrow.submit("queued", on_done=on_done)
        eventually(lambda: emulator.counters().in_flight, "the first text is in flight")
        assert narrow.stats().queued == 1

        child = in_child(lambda: generation([under_way, queued], children=1))
        wrong = wrong_answers(client, CALLS)
        spoken = [_ending(under_way), _ending(queued)]
        json.dump({"wrong": wrong, "pending": spoken, "told": told, "child": gathered(*child)}, sys.stdout)


def _ending(future: Future[Speech]) -> str:
    try:
        return echo_text(future.result(30).audio)
    except CosyError as error:
        return type(error).__name__


if __name__ == "__main__":
    main()

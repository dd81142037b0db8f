"""Interrupts, forks, and clients that are closed during their calls."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import random
import select
import signal
import threading
import time
import traceback
from typing import TYPE_CHECKING, Final

from benchmarks.suites.chaos.callers import LONG_TIMEOUT, Caller, Interrupt
from benchmarks.suites.chaos.records import TextRecord
from cosyclient import CosyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.suites.chaos.protocols import ProtocolCase
    from cosyclient import CosyClient

_RAISE: Final = ctypes.pythonapi.PyThreadState_SetAsyncExc
_CHILD: Final = 45.0
"""Seconds a child may take for its calls."""


class Interrupter:
    """Interrupt calling threads at random instants, between any two steps of the interpreter."""

    def __init__(self, callers: Sequence[Caller], seed: int) -> None:
        self._callers = callers
        self._rng = random.Random(seed)
        self.rate = 0.0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="interrupter", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping:
            time.sleep(min(0.05, self._rng.expovariate(self.rate)) if self.rate else 0.05)
            if self.rate:
                self._interrupt(self._rng.choice(self._callers))

    def _interrupt(self, caller: Caller) -> None:
        caller.interrupting = True
        # In this order: a caller that has caught one is not in a call until it sets that again.
        if caller.caught == caller.sent and caller.in_call:
            caller.sent += 1
            _RAISE(ctypes.c_ulong(caller.ident), ctypes.py_object(Interrupt))
        caller.interrupting = False

    def close(self) -> None:
        """Stop."""
        self._stopping = True
        self._thread.join()


class TimerInterrupter:
    """Interrupt the main thread by a system timer, as Ctrl-C would: between two steps, or in a wait."""

    def __init__(self, caller: Caller, seed: int) -> None:
        self._caller = caller
        self._rng = random.Random(seed)
        self._freeing = False
        self.on = False
        caller.before_turn = self._arm
        signal.signal(signal.SIGALRM, self._on_alarm)

    def _arm(self) -> None:
        if self.on:
            signal.setitimer(signal.ITIMER_REAL, 2 ** self._rng.uniform(-13.0, -3.0))

    def _on_alarm(self, *_: object) -> None:
        caller = self._caller
        if self._freeing or (caller.in_call and caller.sent == caller.caught):
            caller.sent += 1
            raise Interrupt

    def free_main_thread(self) -> None:
        """Interrupt a call of the main thread that does not return."""
        self._freeing = True
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def close(self) -> None:
        """Stop; on the main thread."""
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)


def call_after_fork(
    clients: Mapping[ProtocolCase, CosyClient], views: Mapping[ProtocolCase, CosyClient], seed: int
) -> tuple[list[TextRecord], str]:
    """Fork during everything else; return the texts of parent and child, and what went wrong in the child."""
    # In a child, grpcio's own locks may stay held by threads that exist in the parent alone, as it documents.
    cases = random.Random(seed).sample([case for case in views if case.scheme != "grpc"], 3)
    parent_text, *child_texts = (
        TextRecord(protocol=case.protocol, text=f"text {n} of fork {seed}", call="fork", timeout=LONG_TIMEOUT)
        for n, case in enumerate([cases[0], *cases])
    )
    try:
        parent_text.future = views[cases[0]].submit(parent_text.text, on_done=parent_text.on_done, timeout=LONG_TIMEOUT)
    except CosyError as error:
        parent_text.note_error(error)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        _run_child(
            writer, parent_text, dict(zip(child_texts, (views[case] for case in cases), strict=True)), clients.values()
        )
    os.close(writer)
    report, end = b"", time.monotonic() + _CHILD
    with open(reader, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0] and (piece := pipe.read(65536)):
            report += piece
    os.kill(pid, signal.SIGKILL)  # it has reported, or has had its time
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not report:
        return [parent_text], f"a child with {', '.join(case.protocol for case in cases)} reported nothing, exit {code}"
    document = json.loads(report)
    return [parent_text, *(TextRecord(**each) for each in document["texts"])], document["wrong"]


def _run_child(
    writer: int, parent_text: TextRecord, texts: Mapping[TextRecord, CosyClient], clients: Iterable[CosyClient]
) -> None:
    """Call, report, and end this process."""
    try:
        faulthandler.dump_traceback_later(_CHILD - 5.0, exit=True)
        wrong = ""
        if parent_text.future is not None:
            # The text is completed in the parent; in the child, its future fails.
            error = parent_text.future.exception(timeout=5.0)
            wrong = "" if error is None or isinstance(error, CosyError) else f"the parent's future: {error!r}"
        for record, view in texts.items():
            try:
                record.note_audio(view.synthesize(record.text, timeout=record.timeout).audio)
            except Exception as error:  # noqa: BLE001 - reported
                record.note_error(error)
        for client in clients:
            client.close()
        os.write(writer, json.dumps({"texts": [each.document() for each in texts], "wrong": wrong}).encode())
    except BaseException:  # noqa: BLE001 - the child ends here in any case
        traceback.print_exc()
    finally:
        os._exit(0)


def close_during_calls(case: ProtocolCase, url: str, grpc_url: str, seed: int) -> tuple[list[Caller], str]:
    """Make a client and close it while four threads call it; return them, and what it still holds."""
    rng = random.Random(seed)
    client = case.client(url, grpc_url)
    callers = [Caller(f"closed {seed} {n}", {case: client}, f"{seed}/{n}", closing=True) for n in range(4)]
    for caller in callers:
        caller.thread.start()
    time.sleep(rng.uniform(0.0, 0.3))
    client.close(drain=rng.random() < 0.5)
    for caller in callers:
        caller.stopping = True
    for caller in callers:
        caller.thread.join(2 * LONG_TIMEOUT)
    return callers, held(case, client)


def held(case: ProtocolCase, client: CosyClient, seconds: float = 10.0) -> str:
    """Return what *client* still holds after so many *seconds*, which it may use to release it."""
    end = time.monotonic() + seconds
    while True:
        stats = client.stats()
        left = {
            "queued": stats.queued,
            "in flight": stats.in_flight,
            "pending": stats.pending,
            "workers": stats.workers,
            "connections in use": stats.pool.in_use,
        }
        found = ", ".join(f"{count} {name}" for name, count in left.items() if count)
        if not found or time.monotonic() > end:
            return f"{case.protocol} holds {found}" if found else ""
        time.sleep(0.02)

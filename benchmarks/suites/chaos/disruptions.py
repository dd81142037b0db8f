"""What befalls the chaos's callers: interrupts, forks, and clients that are closed amid their calls."""

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

from benchmarks.suites.chaos.callers import AMPLE, Caller, Interrupt
from benchmarks.suites.chaos.records import Entry
from cosyclient import CosyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.suites.chaos.protocols import Way
    from cosyclient import CosyClient

_RAISE: Final = ctypes.pythonapi.PyThreadState_SetAsyncExc
_CHILD: Final = 45.0
"""Seconds a child may take to make its calls."""


class Interrupter:
    """Interrupt calling threads at random instants, between any two steps of the interpreter."""

    def __init__(self, callers: Sequence[Caller], seed: int) -> None:
        self._callers = callers
        self._chance = random.Random(seed)
        self.rate = 0.0
        self._over = False
        self._thread = threading.Thread(target=self._run, name="interrupter", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over:
            time.sleep(min(0.05, self._chance.expovariate(self.rate)) if self.rate else 0.05)
            if self.rate:
                self._strike(self._chance.choice(self._callers))

    def _strike(self, caller: Caller) -> None:
        caller.asking = True
        # In this order: a caller that has caught one is not within a call until it says so again.
        if caller.seen == caller.sent and caller.within:
            caller.sent += 1
            _RAISE(ctypes.c_ulong(caller.ident), ctypes.py_object(Interrupt))
        caller.asking = False

    def close(self) -> None:
        """Stop."""
        self._over = True
        self._thread.join()


class Alarm:
    """Interrupt the main thread by a timer of the system, as Ctrl-C would: between two steps, or out of a wait."""

    def __init__(self, caller: Caller, seed: int) -> None:
        self._caller = caller
        self._chance = random.Random(seed)
        self._rescuing = False
        self.on = False
        caller.before = self._arm
        signal.signal(signal.SIGALRM, self._ring)

    def _arm(self) -> None:
        if self.on:
            signal.setitimer(signal.ITIMER_REAL, 2 ** self._chance.uniform(-13.0, -3.0))

    def _ring(self, *_: object) -> None:
        caller = self._caller
        if self._rescuing or (caller.within and caller.sent == caller.seen):
            caller.sent += 1
            raise Interrupt

    def rescue(self) -> None:
        """Get the main thread out of a call that does not come back."""
        self._rescuing = True
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def close(self) -> None:
        """Stop; on the main thread."""
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)


def fork(clients: Mapping[Way, CosyClient], views: Mapping[Way, CosyClient], seed: int) -> tuple[list[Entry], str]:
    """Fork amid everybody's calls; return what became of the texts on both sides, and what is wrong with the child."""
    # grpcio's own locks may be held by threads that a child has not; it says itself that it is then no use there.
    ways = random.Random(seed).sample([way for way in views if way.scheme != "grpc"], 3)
    ours, *theirs = (
        Entry(protocol=way.protocol, text=f"text {n} of fork {seed}", call="fork", timeout=AMPLE)
        for n, way in enumerate([ways[0], *ways])
    )
    try:
        ours.future = views[ways[0]].submit(ours.text, on_done=ours.on_done, timeout=AMPLE)
    except CosyError as error:
        ours.fails(error)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        _be_a_child(writer, ours, dict(zip(theirs, (views[way] for way in ways), strict=True)), clients.values())
    os.close(writer)
    said, patience = b"", time.monotonic() + _CHILD
    with open(reader, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0.0, patience - time.monotonic()))[0] and (piece := pipe.read(65536)):
            said += piece
    os.kill(pid, signal.SIGKILL)  # it has said what it had to say, or had its time
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not said:
        return [ours], f"a child that was to speak {', '.join(way.protocol for way in ways)} said nothing, exit {code}"
    report = json.loads(said)
    return [ours, *(Entry(**each) for each in report["entries"])], report["wrong"]


def _be_a_child(
    writer: int, parents: Entry, entries: Mapping[Entry, CosyClient], clients: Iterable[CosyClient]
) -> None:
    """Call, report, and end this process."""
    try:
        faulthandler.dump_traceback_later(_CHILD - 5.0, exit=True)
        wrong = ""
        if parents.future is not None:
            # The parent hears of it, the child that it is not his.
            error = parents.future.exception(timeout=5.0)
            wrong = "" if error is None or isinstance(error, CosyError) else f"the parent's future: {error!r}"
        for entry, view in entries.items():
            try:
                entry.speaks(view.synthesize(entry.text, timeout=entry.timeout).audio)
            except Exception as error:  # noqa: BLE001 - reported
                entry.fails(error)
        for client in clients:
            client.close()
        os.write(writer, json.dumps({"entries": [each.document() for each in entries], "wrong": wrong}).encode())
    except BaseException:  # noqa: BLE001 - the child ends here, whatever it was
        traceback.print_exc()
    finally:
        os._exit(0)


def close_amid(way: Way, url: str, grpc_url: str, seed: int) -> tuple[list[Caller], str]:
    """Make a client and close it while four threads call it; return them, and what it still holds."""
    chance = random.Random(seed)
    client = way.client(url, grpc_url)
    callers = [Caller(f"closed {seed} {n}", {way: client}, f"{seed}/{n}", closing=True) for n in range(4)]
    for caller in callers:
        caller.thread.start()
    time.sleep(chance.uniform(0.0, 0.3))
    client.close(drain=chance.random() < 0.5)
    for caller in callers:
        caller.over = True
    for caller in callers:
        caller.thread.join(2 * AMPLE)
    return callers, held(way, client)


def held(way: Way, client: CosyClient, patience: float = 10.0) -> str:
    """Return what *client* still holds when it has had time to let go."""
    end = time.monotonic() + patience
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
            return f"{way.protocol} holds {found}" if found else ""
        time.sleep(0.02)

"""Run the chaos, in a process of its own: read an order from stdin, print what became of everything."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.measure import threads_now
from benchmarks.suites.chaos.callers import AMPLE, Caller, Interrupt
from benchmarks.suites.chaos.disruptions import Alarm, Interrupter, close_amid, fork, held
from benchmarks.suites.chaos.protocols import WAYS, Way
from benchmarks.suites.chaos.records import Entry, Trouble, row_of
from benchmarks.suites.chaos.service import TROUBLES, Phase, Service, timetable
from cosyclient import CosyClient, CosyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BACK: Final = 15.0
"""Seconds after a trouble within which every client has to have made a good call again."""
_STANDSTILL: Final = 5 * AMPLE
"""Seconds after its end by which a run has to be over."""
_LEFT: Final = 5.0


@dataclass(kw_only=True)
class Chaos:
    """Direct one run: what happens when, to whom, and what is there to be accounted for at its end."""

    phases: list[Phase]
    until: float
    service: Service
    clients: dict[Way, CosyClient]
    views: dict[Way, CosyClient]
    callers: list[Caller]
    interrupter: Interrupter
    alarm: Alarm
    troubles: list[Trouble] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    forks: list[Future[tuple[list[Entry], str]]] = field(default_factory=list)
    closes: list[Future[tuple[list[Caller], str]]] = field(default_factory=list)
    back: float = 0.0
    """The longest that any client took to make a good call after a trouble."""

    def direct(self) -> None:
        """Go through the phases, then let the callers end; whatever happens, they do."""
        try:
            with ThreadPoolExecutor(4, thread_name_prefix="strike") as hands:
                for phase in self.phases:
                    if time.monotonic() < self.until:
                        self._enter(phase, hands)
        except BaseException:  # noqa: BLE001 - told with the rest
            self.findings.append(f"the chaos itself failed: {traceback.format_exc()}")
        finally:
            self.interrupter.rate, self.alarm.on = 0.0, False
            for caller in self.callers:
                caller.over = True
            if self._stuck(self.callers[0], 2 * AMPLE):
                self.alarm.rescue()

    def _enter(self, phase: Phase, hands: ThreadPoolExecutor) -> None:
        chance = random.Random(phase.seed)
        self.interrupter.rate, self.alarm.on = phase.interrupts, phase.interrupts > 0
        for caller in self.callers:
            caller.idle = phase.kind == "idle"
        for _ in range(phase.forks):
            self.forks.append(hands.submit(fork, self.clients, self.views, chance.getrandbits(32)))
        for _ in range(phase.closes):
            way, seed = chance.choice([way for way in WAYS if not way.uploads]), chance.getrandbits(32)
            self.closes.append(hands.submit(close_amid, way, self.service.url, self.service.grpc_url, seed))
        if phase.kind not in TROUBLES:
            self.service.suffer(phase)
            return
        trouble = Trouble(kind=phase.kind, began=time.monotonic())
        self.troubles.append(trouble)
        self.service.suffer(phase)
        self.recover()
        trouble.ended = time.monotonic()

    def recover(self) -> None:
        """Let the service be well again, and wait until every client has noticed."""
        began = time.monotonic()
        forgotten = Trouble(kind="forgotten voices", began=began)
        self.troubles.append(forgotten)
        self.service.recover()
        with ThreadPoolExecutor(len(WAYS), thread_name_prefix="probe") as hands:
            for way, error in zip(WAYS, hands.map(self._probe, WAYS), strict=True):
                if error is not None:
                    self.findings.append(f"{way.protocol}: no good call {BACK:g} s after a trouble: {error!r}")
        forgotten.ended = time.monotonic()
        self.back = max(self.back, forgotten.ended - began)

    def _probe(self, way: Way) -> CosyError | None:
        end = time.monotonic() + BACK
        while True:
            try:
                self.views[way] = way.ready(self.clients[way])
                self.views[way].synthesize(f"well again {time.monotonic()}", timeout=BACK)
                if "closed" not in self.clients[way].stats().breakers.values():
                    time.sleep(0.05)  # half-open: a few are let through, the others not yet
                    continue
            except CosyError as error:
                if time.monotonic() > end:
                    return error
                time.sleep(0.05)
            else:
                return None

    def _stuck(self, caller: Caller, patience: float) -> bool:
        end = time.monotonic() + patience
        while caller.running:
            if time.monotonic() > end:
                frame = sys._current_frames().get(caller.ident)
                stack = "".join(traceback.format_stack(frame, 12)) if frame else ""
                self.findings.append(f"{caller.name} stands still in {caller.current}:\n{stack}")
                return True
            time.sleep(0.05)
        return False

    def settle(self) -> None:
        """Wait for what is still under way; nothing may be for longer than its deadline."""
        for caller in self.everybody():
            self._stuck(caller, 2 * AMPLE)
            if caller.lost:
                self.findings.append(f"{caller.name}: {caller.lost} interrupts were swallowed")
        end = time.monotonic() + 1.5 * AMPLE
        while any(each.future and not each.future.done() for each in self.entries()) and time.monotonic() < end:
            time.sleep(0.05)
        for entry in self.entries():
            entry.settle()
        self.findings += [wrong for fork in self.forks if (wrong := fork.result()[1])]
        self.findings += [f"closed amid calls: {left}" for close in self.closes if (left := close.result()[1])]

    def everybody(self) -> list[Caller]:
        """Return all callers, those of the clients that were closed included."""
        return [*self.callers, *(caller for close in self.closes if close.done() for caller in close.result()[0])]

    def entries(self) -> list[Entry]:
        """Return all texts there were."""
        forked = [entry for fork in self.forks if fork.done() for entry in fork.result()[0]]
        return [*forked, *(entry for caller in self.everybody() for job in caller.jobs for entry in job.entries)]

    def document(self, left: Mapping[Way, str], behind: Mapping[str, int]) -> dict[str, Any]:
        """Return what became of everything, as plain values; *left* is what the clients hold, *behind* the process."""
        entries = self.entries()
        rows = [row_of(way.protocol, entries, self.troubles) | {"held": left.get(way, "")} for way in WAYS]
        found = [finding for row in rows for finding in row.pop("findings")]
        return {
            "rows": rows,
            "findings": [*self.findings, *found, *filter(None, left.values())],
            "behind": behind,
            "back": self.back,
            "interrupts": sum(caller.sent for caller in self.callers),
            "forks": len(self.forks),
            "closes": len(self.closes),
            "restarts": self.service.restarts,
            "troubles": dict(Counter(trouble.kind for trouble in self.troubles)),
            "calls": dict(Counter(entry.call for entry in entries)),
        }

    def watch(self) -> None:
        """Tell where everybody stands, and end this process, if the run does not end by itself."""
        time.sleep(max(0.0, self.until - time.monotonic()) + _STANDSTILL)
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            stack = "".join(traceback.format_stack(frame, 8))
            if "cosyclient" in stack and ident != threading.get_ident():
                self.findings.append(f"everything stands still; {names.get(ident)} in\n{stack}")
        print(json.dumps(self.document({}, {})), flush=True)
        os._exit(0)


def run(seed: int, seconds: float, *, interrupts: bool, callers: int) -> dict[str, Any]:
    """Run the chaos of *seed* and return what became of it; on the main thread, which is one of the callers."""
    with Service() as service:
        _warm_up(service)
        before = _resources()
        clients = {way: way.client(service.url, service.grpc_url) for way in WAYS}
        views = {way: way.ready(client) for way, client in clients.items()}
        crowd = [Caller(f"caller {n}", views, f"{seed}/{n}") for n in range(callers)]
        sys.unraisablehook = partial(_unraisable, crowd)
        chaos = Chaos(
            phases=timetable(seed, seconds, interrupts=interrupts),
            until=time.monotonic() + seconds,
            service=service,
            clients=clients,
            views=views,
            callers=crowd,
            interrupter=Interrupter(crowd[1:], seed),
            alarm=Alarm(crowd[0], seed),
        )
        watcher = threading.Thread(target=chaos.watch, daemon=True)
        director = threading.Thread(target=chaos.direct, name="director")
        for thread in (watcher, director, *(caller.thread for caller in crowd[1:])):
            thread.start()
        crowd[0].run()
        director.join()
        chaos.alarm.close()
        chaos.interrupter.close()
        chaos.settle()
        chaos.recover()
        left = {way: held(way, client) for way, client in clients.items()}
        for client in clients.values():
            client.close()
        before["threads"] += 1  # the watcher
        return chaos.document(left, _behind(before))


def _warm_up(service: Service) -> None:
    """Load what each way needs: modules, and threads of libraries that outlive any client."""
    for way in WAYS:
        with way.client(service.url, service.grpc_url) as client:
            view = way.ready(client)
            view.synthesize("warm")
            if way.streams:
                view.stream("warm").close()
            if way.texts:
                view.stream_text(["warm"]).close()


def _unraisable(crowd: Sequence[Caller], unraisable: Any) -> None:
    """Take an interrupt that hit a finalizer, where Python itself swallows it, for one that came out."""
    if not isinstance(unraisable.exc_value, Interrupt):
        sys.__unraisablehook__(unraisable)
        return
    for caller in crowd:
        caller.seen += caller.ident == threading.get_ident()


def _resources() -> dict[str, int]:
    return {"threads": threads_now(), "files": len(os.listdir("/proc/self/fd"))}


def _behind(before: dict[str, int]) -> dict[str, int]:
    """Return what is there now and was not before the first client, after some seconds' patience."""
    end = time.monotonic() + _LEFT
    while (now := _resources()) != before and time.monotonic() < end:
        time.sleep(0.05)
    return {name: count - before[name] for name, count in now.items() if count > before[name]}


if __name__ == "__main__":
    print(json.dumps(run(**json.load(sys.stdin))), flush=True)
    os._exit(0)

"""Run the chaos in a process of its own: parameters come in on stdin, what became of everything goes out on stdout."""

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

from benchmarks.harness.measure import resources, settled
from benchmarks.harness.processes import read_parameters
from benchmarks.suites.chaos.callers import LONG_TIMEOUT, Caller, Interrupt
from benchmarks.suites.chaos.disruptions import Interrupter, TimerInterrupter, call_after_fork, close_during_calls, held
from benchmarks.suites.chaos.protocols import CASES, ProtocolCase
from benchmarks.suites.chaos.records import FaultPeriod, TextRecord, row_of
from benchmarks.suites.chaos.service import FAULTS, Phase, Service, schedule
from cosyclient import CosyClient, CosyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_RECOVERY: Final = 15.0
"""Seconds after a fault within which every client has to have made a successful call."""
_HUNG: Final = 5 * LONG_TIMEOUT
"""Seconds after the planned end of a run after which it counts as hung."""
_RELEASE: Final = 5.0
"""Seconds in which threads and files have to be released after the clients are closed."""


@dataclass(kw_only=True)
class ChaosRun:
    """Run the phases, cause the disruptions, and account for every text at the end."""

    phases: list[Phase]
    until: float
    service: Service
    clients: dict[ProtocolCase, CosyClient]
    views: dict[ProtocolCase, CosyClient]
    callers: list[Caller]
    interrupter: Interrupter
    timer: TimerInterrupter
    faults: list[FaultPeriod] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    forks: list[Future[tuple[list[TextRecord], str]]] = field(default_factory=list)
    closes: list[Future[tuple[list[Caller], str]]] = field(default_factory=list)
    recovery: float = 0.0
    """Most seconds that any client took to make a successful call after a fault."""

    def run_phases(self) -> None:
        """Run the phases, then stop the callers, whatever happened."""
        try:
            with ThreadPoolExecutor(4, thread_name_prefix="disruption") as threads:
                for phase in self.phases:
                    if time.monotonic() < self.until:
                        self._run_phase(phase, threads)
        except BaseException:  # noqa: BLE001 - reported with the rest
            self.findings.append(f"the benchmark itself failed: {traceback.format_exc()}")
        finally:
            self.interrupter.rate, self.timer.on = 0.0, False
            for caller in self.callers:
                caller.stopping = True
            if self._is_stuck(self.callers[0], 2 * LONG_TIMEOUT):
                self.timer.free_main_thread()

    def _run_phase(self, phase: Phase, threads: ThreadPoolExecutor) -> None:
        rng = random.Random(phase.seed)
        self.interrupter.rate, self.timer.on = phase.interrupts, phase.interrupts > 0
        for caller in self.callers:
            caller.idle = phase.kind == "idle"
        for _ in range(phase.forks):
            self.forks.append(threads.submit(call_after_fork, self.clients, self.views, rng.getrandbits(32)))
        for _ in range(phase.closes):
            case, seed = rng.choice([case for case in CASES if not case.uploads]), rng.getrandbits(32)
            self.closes.append(threads.submit(close_during_calls, case, self.service.url, self.service.grpc_url, seed))
        if phase.kind not in FAULTS:
            self.service.run_phase(phase)
            return
        fault = FaultPeriod(kind=phase.kind, began=time.monotonic())
        self.faults.append(fault)
        self.service.run_phase(phase)
        self.recover()
        fault.ended = time.monotonic()

    def recover(self) -> None:
        """End the faults, and wait until every client makes a successful call."""
        began = time.monotonic()
        lost = FaultPeriod(kind="lost voices", began=began)
        self.faults.append(lost)
        self.service.recover()
        with ThreadPoolExecutor(len(CASES), thread_name_prefix="probe") as threads:
            for case, error in zip(CASES, threads.map(self._probe, CASES), strict=True):
                if error is not None:
                    self.findings.append(
                        f"{case.protocol}: no successful call {_RECOVERY:g} s after a fault: {error!r}"
                    )
        lost.ended = time.monotonic()
        self.recovery = max(self.recovery, lost.ended - began)

    def _probe(self, case: ProtocolCase) -> CosyError | None:
        end = time.monotonic() + _RECOVERY
        while True:
            try:
                self.views[case] = case.ready(self.clients[case])
                self.views[case].synthesize(f"recovered {time.monotonic()}", timeout=_RECOVERY)
                if "closed" not in self.clients[case].stats().breakers.values():
                    time.sleep(0.05)  # half-open: a few are admitted, the others not yet
                    continue
            except CosyError as error:
                if time.monotonic() > end:
                    return error
                time.sleep(0.05)
            else:
                return None

    def _is_stuck(self, caller: Caller, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while caller.running:
            if time.monotonic() > end:
                frame = sys._current_frames().get(caller.ident)
                stack = "".join(traceback.format_stack(frame, 12)) if frame else ""
                self.findings.append(f"{caller.name} is stuck in {caller.current}:\n{stack}")
                return True
            time.sleep(0.05)
        return False

    def wait_for_ends(self) -> None:
        """Wait for what is still under way; nothing may take longer than its deadline."""
        for caller in self.all_callers():
            self._is_stuck(caller, 2 * LONG_TIMEOUT)
            if caller.swallowed:
                self.findings.append(f"{caller.name}: {caller.swallowed} interrupts were swallowed")
        end = time.monotonic() + 1.5 * LONG_TIMEOUT
        while any(each.future and not each.future.done() for each in self.texts()) and time.monotonic() < end:
            time.sleep(0.05)
        for record in self.texts():
            record.read_future()
        self.findings += [wrong for fork in self.forks if (wrong := fork.result()[1])]
        self.findings += [f"closed during calls: {left}" for close in self.closes if (left := close.result()[1])]

    def all_callers(self) -> list[Caller]:
        """Return all callers, those of the clients that were closed included."""
        return [*self.callers, *(caller for close in self.closes if close.done() for caller in close.result()[0])]

    def texts(self) -> list[TextRecord]:
        """Return all texts there were."""
        forked = [record for fork in self.forks if fork.done() for record in fork.result()[0]]
        return [*forked, *(record for caller in self.all_callers() for call in caller.calls for record in call.texts)]

    def document(self, left: Mapping[ProtocolCase, str], leaked: Mapping[str, int]) -> dict[str, Any]:
        """Return what became of everything, as plain values; *left* is what clients hold, *leaked* the process."""
        texts = self.texts()
        rows = [row_of(case.protocol, texts, self.faults) | {"held": left.get(case, "")} for case in CASES]
        found = [finding for row in rows for finding in row.pop("findings")]
        return {
            "rows": rows,
            "findings": [*self.findings, *found, *filter(None, left.values())],
            "leaked": leaked,
            "recovery": self.recovery,
            "interrupts": sum(caller.sent for caller in self.callers),
            "forks": len(self.forks),
            "closes": len(self.closes),
            "restarts": self.service.restarts,
            "faults": dict(Counter(fault.kind for fault in self.faults)),
            "calls": dict(Counter(record.call for record in texts)),
        }

    def end_if_hung(self) -> None:
        """Report where every thread is, and end this process, if the run does not end by itself."""
        time.sleep(max(0.0, self.until - time.monotonic()) + _HUNG)
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            stack = "".join(traceback.format_stack(frame, 8))
            if "cosyclient" in stack and ident != threading.get_ident():
                self.findings.append(f"the run hangs; {names.get(ident)} in\n{stack}")
        print(json.dumps(self.document({}, {})), flush=True)
        os._exit(0)


def run(seed: int, seconds: float, *, interrupts: bool, callers: int) -> dict[str, Any]:
    """Run the chaos of *seed* and return what became of it; on the main thread, which is one of the callers."""
    with Service() as service:
        _warm_up(service)
        before = resources()
        clients = {case: case.client(service.url, service.grpc_url) for case in CASES}
        views = {case: case.ready(client) for case, client in clients.items()}
        every_caller = [Caller(f"caller {n}", views, f"{seed}/{n}") for n in range(callers)]
        first, *others = every_caller
        sys.unraisablehook = partial(_count_unraisable, every_caller)
        chaos = ChaosRun(
            phases=schedule(seed, seconds, interrupts=interrupts),
            until=time.monotonic() + seconds,
            service=service,
            clients=clients,
            views=views,
            callers=every_caller,
            interrupter=Interrupter(others, seed),
            timer=TimerInterrupter(first, seed),
        )
        watchdog = threading.Thread(target=chaos.end_if_hung, daemon=True)
        director = threading.Thread(target=chaos.run_phases, name="director")
        for thread in (watchdog, director, *(caller.thread for caller in others)):
            thread.start()
        first.run()
        director.join()
        chaos.timer.close()
        chaos.interrupter.close()
        chaos.wait_for_ends()
        chaos.recover()
        left = {case: held(case, client) for case, client in clients.items()}
        for client in clients.values():
            client.close()
        before["threads"] += 1  # the watchdog
        return chaos.document(left, _leaked(before))


def _warm_up(service: Service) -> None:
    """Load what each protocol needs: modules, and threads of libraries that outlive any client."""
    for case in CASES:
        with case.client(service.url, service.grpc_url) as client:
            view = case.ready(client)
            view.synthesize("warm")
            if case.streams:
                view.stream("warm").close()
            if case.texts:
                view.stream_text(["warm"]).close()


def _count_unraisable(callers: Sequence[Caller], unraisable: Any) -> None:
    """Count an interrupt that hit a finalizer, where Python itself swallows it, as caught."""
    if not isinstance(unraisable.exc_value, Interrupt):
        sys.__unraisablehook__(unraisable)
        return
    for caller in callers:
        caller.caught += caller.ident == threading.get_ident()


def _leaked(before: dict[str, int]) -> dict[str, int]:
    """Return what is there now and was not before the first client, after some seconds to release it."""
    now = settled(resources, before, _RELEASE)
    return {name: count - before[name] for name, count in now.items() if count > before[name]}


if __name__ == "__main__":
    print(json.dumps(run(**read_parameters())), flush=True)
    os._exit(0)

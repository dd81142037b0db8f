"""Fill a quota that a real Envoy enforces, and find out one that is stricter than configured."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from benchmarks.harness.gateway import GatewaySpec
from benchmarks.harness.loads import LoadSpec
from benchmarks.harness.results import Row, announce, publish
from benchmarks.harness.tables import number, share
from benchmarks.harness.wires import PLAIN, reply
from benchmarks.harness.worker import measure
from benchmarks.suites.quota.plan import CASES, CONNECTIONS, QUICK, ROUND_TRIP
from benchmarks.suites.quota.report import conclusions, draw, introduction, tabulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness.options import Options
    from benchmarks.harness.results import Run
    from benchmarks.suites.quota.plan import Case


def run(options: Options) -> None:
    """Measure, print the table, and write ``quota.json`` and ``quota.svg``."""
    seconds = 2.0 if options.quick else 60.0
    cases = QUICK if options.quick else CASES
    about = announce("quota", introduction(seconds, cases, options))
    rows = measure_all(cases, seconds, options)
    print(f"\n{tabulate(cases, rows)}\n\n{conclusions(cases, rows)}")
    figures = {
        "repeat": options.repeat,
        "parameters": {"seconds": seconds, "audio": options.audio, "cases": [asdict(each) for each in cases]},
        "rows": [row.document() for row in rows],
    }
    publish("quota", options, about, figures, lambda path: draw(path, cases, rows, about))


def measure_all(cases: Sequence[Case], seconds: float, options: Options) -> list[Row]:
    """Return a row per case; each run is a fresh client against a fresh Envoy."""
    runs: dict[str, list[Run]] = {each.name: [] for each in cases}
    for turn in range(1, options.repeat + 1):
        for each in cases:
            done = measure_one(each, seconds, options.audio)
            runs[each.name].append(done)
            print(
                f"  run {turn}/{options.repeat} {each.name:15}{number(done.rate):>7} texts/s, "
                f"{share(done.refused_share)} refused, {share(done.error_rate)} errors",
                flush=True,
            )
    return [Row(name=each.name, label=each.label, sentence=each.load, runs=runs[each.name]) for each in cases]


def measure_one(case: Case, seconds: float, audio: str) -> Run:
    """Return one run of so many measured *seconds*; *audio* is what is asked for where that is not the plain wire."""
    audio = PLAIN if case.plain else audio
    service = GatewaySpec(reply=reply(audio))
    if case.rate is not None:
        service = replace(service, delay=ROUND_TRIP, rate=case.rate, bucket=case.bucket, connections=CONNECTIONS)
    load = LoadSpec(
        peer=case.peer,
        audio=audio,
        callers=case.callers,
        seconds=seconds,
        warm_up=case.warm_up,
        load=case.load,
        rate=case.calls,
    )
    return measure(load, service)

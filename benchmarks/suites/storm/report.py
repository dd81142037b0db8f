"""Report what the storm benchmark measured: the tables, the targets, the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.pictures import DASHED, OTHERS, OURS, QUIET, canvas, made_by, note, tidy
from benchmarks.harness.tables import met, number, percent, repeated, seconds, share, table
from benchmarks.suites.storm.clients import CLIENTS
from benchmarks.suites.storm.plan import TARGET_AMPLIFICATION, TARGET_RECOVERY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.suites.storm.plan import Outage, Plan

_COLOURS: Final = {"ours": OURS, **dict(zip([name for name in CLIENTS if name != "ours"], OTHERS, strict=False))}


def introduction(plan: Plan, repeat: int) -> str:
    """Return what is measured and how, before the figures."""
    return (
        "what a failing service receives from each client\n\n"
        f"Service: the emulator, {plan.rtt * 1000:g} ms round trip, no quota, no limit to the load it can take (so a "
        "storm does not change\nit: what is counted is the storm). Each client gets a new text "
        f"{plan.rate:g} times a second, whether the last call has ended or\nnot, one text a request, in a process of "
        "its own; all run at once, each against a service of its own.\n"
        "No warm-up: what is measured includes the client's start.\n"
        f"Shares: HTTP 500 by chance for {plan.seconds:g} s per share, "
        f"{repeated(repeat)}. Outage, one run: everything succeeds for about {plan.healthy:g} s,\nthen 500 for "
        f"everything for {plan.outage:g} s, then everything succeeds again. Ours opens its breaker for "
        f"{plan.open_for:g} s"
        f"{' (its default)' if plan.open_for == 30 else ' (its default is 30 s: this is the quick run)'} ± 10 %.\n\n"
        + "\n".join(f"  {name:8} {sentence}" for name, sentence in CLIENTS.items())
    )


def tabulate(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of the shares."""
    heads = [
        "client", "fail", "calls", "requests\nat service", "amplifi-\ncation", "lowest to\nhighest",
        "calls that\nsucceeded", "CircuitOpen", "RetryBudget-\nSpent", "other\nerrors", "slept\na call", "target\nmet",
    ]  # fmt: skip
    return table(heads, [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> list[str]:
    other = row["calls"] - row["succeeded"] - row["circuit_open"] - row["budget_spent"]
    judged = row["client"] == "ours" and row["share"] >= 0.5
    return [
        row["client"],
        share(row["share"]),
        number(row["calls"]),
        number(row["requests"]),
        f"{row['amplification']:.2f}",
        "–" if row["lowest"] == row["highest"] else f"{row['lowest']:.2f} to {row['highest']:.2f}",
        share(row["succeeded"] / row["calls"]),
        number(row["circuit_open"]),
        number(row["budget_spent"]),
        number(other),
        seconds(row["slept"] / row["calls"]),
        ("yes" if row["amplification"] <= TARGET_AMPLIFICATION else "no") if judged else "",
    ]


def tabulate_outage(outages: Sequence[Outage]) -> str:
    """Return the table of the outage."""
    heads = [
        "client", "calls in\nthe outage", "requests at the\nfailing service", "of them after the\nbreaker opened",
        "probes\nallowed", "until 99 %\ngoodput", "breaker open\nof that", "beyond", "calls failed\nafter recovery",
    ]  # fmt: skip
    rows = [
        [
            each.client,
            number(each.calls),
            number(each.requests),
            number(each.requests_open),
            number(each.probes),
            seconds(each.recovery),
            seconds(each.still_open),
            seconds(each.beyond),
            number(each.failed_after),
        ]
        for each in outages
    ]
    return table(heads, rows)


def conclusions(rows: Sequence[dict[str, Any]], outages: Sequence[Outage]) -> str:
    """Return which targets are met."""
    ours = {row["share"]: row for row in rows if row["client"] == "ours"}
    worst = max(row["amplification"] for failing, row in ours.items() if failing >= 0.5)
    (outage,) = (each for each in outages if each.client == "ours")
    open_, probes = outage.requests_open, outage.probes
    probes_only = open_ is not None and probes is not None and open_ <= probes
    recovered = outage.beyond is not None and outage.beyond <= TARGET_RECOVERY
    return "\n".join(
        [
            f"Amplification at most {TARGET_AMPLIFICATION:g} at 50, 90 and 100 % failures: "
            f"{met(worst <= TARGET_AMPLIFICATION)} ({worst:.2f}).",
            f"With the service down, what reaches it is probes: {met(probes_only)} "
            f"({number(open_)} requests after the breaker opened, {number(probes)} probes allowed).",
            f"99 % goodput within {TARGET_RECOVERY:g} s of recovery, plus the open time: {met(recovered)} "
            f"({seconds(outage.beyond)}).",
            "Amplification: requests that reached the service for each call made. Below 1, the breaker refuses calls",
            "without sending them; the cost is in the column of calls that succeeded: at 50 % it is high, and there",
            "the budget alone would do. A client without a breaker recovers at once where the service can take any",
            "load; what it sends to one that cannot is in the column of requests.",
        ]
    )


def draw(
    path: Path, rows: Sequence[dict[str, Any]], outages: Sequence[Outage], plan: Plan, about: dict[str, Any]
) -> None:
    """Draw amplification over the share of failures, and goodput and load around the outage."""
    caption = (
        f"cosyclient's emulator, {plan.rate:g} calls/s to each client at once, one text a request. Left: requests that "
        "reached the service for each call.\n"
        f"Right: share of the calls made in each second that brought audio; the breaker opens for {plan.open_for:g} s "
        f"± 10 %. {made_by('storm', about)}"
    )
    title = "How a failing service is spared: load amplification, and recovery after an outage"
    with canvas(path, title=title, caption=caption, size=(12.5, 4.8), columns=2, width_ratios=(5, 7)) as axes:
        _amplification(axes[0], rows)
        _goodput(axes[1], outages, plan)


def _amplification(axis: Any, rows: Sequence[dict[str, Any]]) -> None:
    tidy(axis, "load amplification over the share of requests that fail")
    shares = sorted({row["share"] for row in rows})
    ends = []
    for client in CLIENTS:
        found = {row["share"]: row["amplification"] for row in rows if row["client"] == client}
        values = [found[failing] for failing in shares]
        axis.plot(range(len(shares)), values, marker="o", markersize=4, color=_COLOURS[client], linewidth=2, zorder=4)
        ends.append((values[-1], client))
    # Labels at the lines' ends, pushed apart where lines meet.
    level = -1.0
    for value, client in sorted(ends):
        level = max(value, level + 0.24)
        at = (len(shares) - 1, level)
        note(axis, f"{client} {value:.2f}", at, shift=(8, 0), fontsize=9, color=_COLOURS[client])
    axis.axhline(TARGET_AMPLIFICATION, **{**DASHED, "color": QUIET})
    note(axis, f"target {TARGET_AMPLIFICATION:g}", (0, TARGET_AMPLIFICATION), shift=(0, 4), va="baseline", color=QUIET)
    axis.set_xticks(range(len(shares)), [percent(failing) for failing in shares])
    axis.set_xlim(-0.2, len(shares) + 0.25)
    axis.set_ylim(0, 4.4)


def _goodput(axis: Any, outages: Sequence[Outage], plan: Plan) -> None:
    tidy(axis, "calls that succeed, around an outage")
    axis.axvspan(0, plan.outage, color="#f1f3f5", zorder=0)
    note(axis, "every request fails", (plan.outage / 2, 0.5), shift=(0, 0), ha="center", va="baseline", color=QUIET)
    for each in outages:
        if each.client in ("ours", "urllib3", "report"):
            times, goods = zip(*each.goodput, strict=True)
            label = f"{each.client}: {each.requests:,} requests for {each.calls:,} calls in the outage"
            axis.step(times, goods, where="post", color=_COLOURS[each.client], linewidth=2, label=label)
    axis.set_ylim(-0.04, 1.6)
    axis.set_xlim(-plan.healthy, plan.outage + plan.after)
    axis.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axis.set_xlabel("seconds since the outage began")
    axis.legend(loc="upper left", fontsize=9, frameon=False)

"""Say and draw what the storm benchmark found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.pictures import OTHERS, OURS, QUIET, canvas, made_by, tidy
from benchmarks.harness.tables import number, seconds, share, table
from benchmarks.suites.storm.clients import CLIENTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.suites.storm.run import Outage, Plan

MOST: Final = 1.1
"""The target of load amplification where half or more fails."""
BACK: Final = 5.0
"""The target of seconds from recovery to 99 % goodput, the open time not counted."""
_COLOURS: Final = {"ours": OURS, **dict(zip([name for name in CLIENTS if name != "ours"], OTHERS, strict=False))}


def introduction(plan: Plan, repeat: int) -> str:
    """Return what is measured and how, before the figures."""
    return (
        "what a failing service hears of each client\n\n"
        f"Service: the emulator, {plan.rtt * 1000:g} ms round trip, no quota, no limit to what it can bear (so a storm "
        "cannot bring it down:\nwhat is counted is the storm). Each client gets a new text "
        f"{plan.rate:g} times a second, whatever became of the last, one text a request,\nin a process of its own; all "
        "run at once, each against a service of its own. No warm-up: what is measured begins cold.\n"
        f"Shares: HTTP 500 by chance for {plan.seconds:g} s per share, "
        f"{'one run' if repeat == 1 else f'medians of {repeat} runs'}. Outage, one run: all is well for about "
        f"{plan.healthy:g} s,\nthen 500 for everything for {plan.outage:g} s, then all is well again. Ours opens its "
        f"breaker for {plan.open_for:g} s"
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
    other = row["wanted"] - row["succeeded"] - row["circuit_open"] - row["budget_spent"]
    aimed = row["client"] == "ours" and row["share"] >= 0.5
    return [
        row["client"],
        share(row["share"]),
        number(row["wanted"]),
        number(row["requests"]),
        f"{row['amplification']:.2f}",
        "–" if row["lowest"] == row["highest"] else f"{row['lowest']:.2f} to {row['highest']:.2f}",
        share(row["succeeded"] / row["wanted"]),
        number(row["circuit_open"]),
        number(row["budget_spent"]),
        number(other),
        seconds(row["slept"] / row["wanted"]),
        ("yes" if row["amplification"] <= MOST else "no") if aimed else "",
    ]


def tabulate_outage(outages: Sequence[Outage]) -> str:
    """Return the table of the outage."""
    heads = [
        "client", "calls in\nthe outage", "requests at the\ndead service", "of them after the\nbreaker opened",
        "probes\nallowed", "until 99 %\ngoodput", "breaker open\nof that", "beyond", "calls lost\nafter recovery",
    ]  # fmt: skip
    rows = [
        [
            each.client,
            number(each.wanted),
            number(each.heard),
            number(each.heard_open),
            number(each.probes),
            seconds(each.back),
            seconds(each.opening),
            seconds(each.beyond),
            number(each.lost_after),
        ]
        for each in outages
    ]
    return table(heads, rows)


def conclusions(rows: Sequence[dict[str, Any]], outages: Sequence[Outage]) -> str:
    """Return which targets are met."""
    ours = {row["share"]: row for row in rows if row["client"] == "ours"}
    worst = max(row["amplification"] for failing, row in ours.items() if failing >= 0.5)
    (story,) = (each for each in outages if each.client == "ours")
    probes_only = story.heard_open is not None and story.probes is not None and story.heard_open <= story.probes
    back = story.beyond is not None and story.beyond <= BACK
    return "\n".join(
        [
            f"Amplification at most {MOST:g} at 50, 90 and 100 % failures: {_met(worst <= MOST)} ({worst:.2f}).",
            f"With the service down, what reaches it is probes: {_met(probes_only)} "
            f"({number(story.heard_open)} requests after the breaker opened, {number(story.probes)} probes allowed).",
            f"99 % goodput within {BACK:g} s of recovery, plus the open time: {_met(back)} ({seconds(story.beyond)}).",
            "Amplification: requests that reached the service for each call made. Below 1 calls are refused locally, "
            "by the breaker;",
            "the price is seen in the column beside it, and at 50 % it is a high one: there the budget alone would do. "
            "A client without",
            "a breaker is back at once where the service bears any load; what it costs one that does not is the column "
            "before.",
        ]
    )


def _met(met: bool) -> str:
    return "met" if met else "MISSED"


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
    title = "A failing service is spared: load amplification, and the way back after an outage"
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
        axis.annotate(
            f"{client} {value:.2f}", (len(shares) - 1, level), xytext=(8, 0), textcoords="offset points", va="center",
            fontsize=9, color=_COLOURS[client],
        )  # fmt: skip
    axis.axhline(MOST, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    axis.annotate(f"target {MOST:g}", (0, MOST), xytext=(0, 4), textcoords="offset points", fontsize=8.5, color=QUIET)
    axis.set_xticks(range(len(shares)), [f"{failing:.0%}".replace("%", " %") for failing in shares])
    axis.set_xlim(-0.2, len(shares) + 0.25)
    axis.set_ylim(0, 4.4)


def _goodput(axis: Any, outages: Sequence[Outage], plan: Plan) -> None:
    tidy(axis, "calls that succeed, around an outage")
    axis.axvspan(0, plan.outage, color="#f1f3f5", zorder=0)
    axis.annotate("every request fails", (plan.outage / 2, 0.5), ha="center", fontsize=8.5, color=QUIET)
    for each in outages:
        if each.client in ("ours", "urllib3", "report"):
            times, goods = zip(*each.goodput, strict=True)
            label = f"{each.client}: {each.heard:,} requests for {each.wanted:,} calls in the outage"
            axis.step(times, goods, where="post", color=_COLOURS[each.client], linewidth=2, label=label)
    axis.set_ylim(-0.04, 1.6)
    axis.set_xlim(-plan.healthy, plan.outage + plan.after)
    axis.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axis.set_xlabel("seconds since the outage began")
    axis.legend(loc="upper left", fontsize=9, frameon=False)

"""Show the capabilities of each protocol and dialect."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from cosyclient.config import WireConfig
from cosyclient.models import SAMPLE_RATES
from cosyclient.protocols.registry import ENTRIES, every_name, protocol_for

if TYPE_CHECKING:
    import argparse

    from cosyclient.protocols.capabilities import Capabilities

HEADS: Final = (
    "`protocol=`",
    "service",
    "over",
    "texts a request",
    "audio streams",
    "text streams in",
    "voices",
    "`instruct`",
    "`speed`",
    "`seed`",
    "`words`",
    "formats",
    "Hz",
    "lists voices",
    "keeps recordings",
)


_VOICES: Final = {"named": "named", "clone": "clone", "cross_lingual": "cross-lingual"}
_NAMELESS: Final = {**_VOICES, "named": "its own"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cosyclient protocols``."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print the table as the README has it")
    form.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print a row per protocol and dialect."""
    if arguments.json:
        data = {name: {"description": ENTRIES[name].description, **asdict(can)} for name, can in _all().items()}
        print(json.dumps(data, default=sorted))
    elif arguments.markdown:
        print(markdown())
    else:
        rows = [[cell.replace("`", "") for cell in row] for row in (HEADS, *_rows())]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def markdown() -> str:
    """Return the table as the README has it."""
    lines = [HEADS, tuple("---" for _ in HEADS), *_rows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _all() -> dict[str, Capabilities]:
    return {name: protocol_for(name, WireConfig()).capabilities for name in every_name()}


def _rows() -> list[tuple[str, ...]]:
    return [(f"`{name}`", ENTRIES[name].description, *_cells(can)) for name, can in _all().items()]


def _cells(can: Capabilities) -> tuple[str, ...]:
    low, high = can.speeds or (1.0, 1.0)
    rates = "any" if can.sample_rates == SAMPLE_RATES else ", ".join(map(str, can.sample_rates))
    return (
        can.medium,
        str(can.batch),
        _yes(can.stream),
        _yes(can.text_in),
        ", ".join(sorted(_VOICES[kind] if can.voice_names else _NAMELESS[kind] for kind in can.voices)),
        _yes(can.instruct),
        f"{low:g}–{high:g}" if can.speeds else "–",
        _yes(can.seed),
        _yes(can.words),
        ", ".join(can.formats),
        rates,
        _yes(can.lists_voices),
        _yes(can.keeps_voices),
    )


def _yes(can: bool) -> str:
    return "yes" if can else "–"

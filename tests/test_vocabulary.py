"""Plain words: the metaphors that the code once used are in no name, docstring, comment, message or file name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import cosyclient

ROOT = Path(cosyclient.__file__).parent.parent
FILES = [
    path
    for folder in ("cosyclient", "tests", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != Path(__file__)
] + [ROOT / "README.md"]

RETIRED = {
    "house": "pipeline",
    "desk|reception": "admission",
    "flights?": "pending text",
    "aloft|embark|disembark|aboard|boarded": "pending, begin_inline, joined, accepted",
    "landed|landings?": "done, completion",
    "doomed": "infeasible",
    "carriers?": "holder",
    "barren": "fruitless",
    "heed|heeds|heeded": "apply",
    "wish|wishes": "request, call",
    "sabotage|spoil|spoils": "fault injection, apply",
    "tally|census": "counter",
    "studio": "renderer",
    "orphan|orphans|orphaned": "reset_after_fork",
    "journeys?": "attempt",
    "hear|hears|heard|overheard": "receive, get",
    "his|him|himself|hers?": "its, the caller",
    "whoever|whomever|everybody": "the caller, all callers",
    "travel|travels|travell?ed|travell?ing": "is sent, is pending",
    "crowds?|crews?": "many clients, thread group",
    "moods?|moody": "fault",
    "rude": "failing",
}
"""Each retired word, and what to say instead."""
ALLOWED = re.compile(r"in flight|single flight|model.?studio|Model Studio", re.IGNORECASE)
"""Terms of the field and names of products that contain such a word."""


def words_of(text: str) -> str:
    """Return *text* with names taken apart into words, and the allowed terms taken out."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text).replace("_", " ")
    return ALLOWED.sub(" ", apart)


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_no_retired_word_is_left(path: Path) -> None:
    """Names count as the words they are made of."""
    lines = [path.relative_to(ROOT).as_posix(), *path.read_text(encoding="utf-8").splitlines()]
    pattern = re.compile(rf"\b(?:{'|'.join(RETIRED)})\b", re.IGNORECASE)
    found = [f"{number}: {line.strip()[:100]}" for number, line in enumerate(lines) if pattern.search(words_of(line))]
    assert not found, f"say instead: {RETIRED}"

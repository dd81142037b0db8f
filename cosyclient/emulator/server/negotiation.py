"""Choose the reply's media type and encoding from what the client accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosyclient.emulator.core.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON = "application/json"
FRAMES = "application/vnd.cosyvoice.batch-frames"


def wants_frames(accept: str, offered: bool) -> bool:
    """Return whether the reply is frames rather than JSON; raises 406 when the client accepts neither.

    Frames are sent only when asked for by name, and win a tie against JSON.
    """
    ranges = list(_ranges(accept)) or [("*/*", {}, 1.0)]
    frames = max(
        (quality for name, given, quality in ranges if name == FRAMES and given.get("v", "1") == "1"), default=0.0
    )
    json = _quality(ranges, JSON)
    if offered and frames > 0 and frames >= json:
        return True
    if json > 0:
        return False
    offers = f"{JSON} and {FRAMES};v=1" if offered else JSON
    raise Problem("not_acceptable", f"this service answers {offers}")


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether the client accepts a gzip reply."""
    qualities = {name: quality for name, _, quality in _ranges(accept_encoding)}
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def _quality(ranges: list[tuple[str, dict[str, str], float]], media_type: str) -> float:
    # The most specific range decides (RFC 9110, 12.5.1).
    for wanted in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        found = [quality for name, _, quality in ranges if name == wanted]
        if found:
            return max(found)
    return 0.0


def _ranges(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for part in header.split(","):
        name, *parameters = [piece.strip() for piece in part.split(";")]
        if not name:
            continue
        given = {}
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            given[key.strip().lower()] = value.strip().strip('"')
        try:
            quality = float(given.pop("q", "1"))
        except ValueError:
            quality = 0.0
        yield name.lower(), given, quality

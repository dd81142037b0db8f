"""What a client accepts, by the rules of RFC 9110."""

from __future__ import annotations

import pytest

from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.server.negotiation import FRAMES, JSON, accepts_gzip, wants_frames


@pytest.mark.parametrize(
    ("accept", "frames"),
    [
        ("", False),
        ("*/*", False),
        (FRAMES, True),
        (f"{FRAMES};v=1, {JSON}", True),
        (f"{FRAMES};v=2, {JSON}", False),
        (f"{FRAMES};q=0.5, {JSON}", False),
        (f"{FRAMES};q=0.5, {JSON};q=0.1", True),
        (f"{FRAMES};q=nonsense, {JSON}", False),
    ],
)
def test_frames_are_sent_to_clients_that_prefer_them(accept: str, frames: bool) -> None:
    """By name, in the version there is, and in a tie."""
    assert wants_frames(accept, offered=True) is frames


@pytest.mark.parametrize(("accept", "offered"), [("text/html", True), (FRAMES, False), (f"{JSON};q=0, */*", True)])
def test_nothing_acceptable_is_refused(accept: str, offered: bool) -> None:
    """A type with quality 0 is excluded, whatever a wildcard admits."""
    with pytest.raises(Problem) as refused:
        wants_frames(accept, offered)
    assert refused.value.status == 406


@pytest.mark.parametrize(
    ("accept_encoding", "gzip"),
    [("", False), ("gzip", True), ("br, gzip;q=0.1", True), ("*", True), ("gzip;q=0, *", False), ("br", False)],
)
def test_gzip_is_accepted_by_name_or_wildcard(accept_encoding: str, gzip: bool) -> None:
    """Unless it is excluded."""
    assert accepts_gzip(accept_encoding) is gzip

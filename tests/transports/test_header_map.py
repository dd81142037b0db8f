"""The header fields of a reply, looked up without regard to case."""

from __future__ import annotations

from cosyclient.transports.header_map import HeaderMap


def test_fields_are_found_in_any_case_and_joined_when_repeated() -> None:
    """As httpx's headers are."""
    fields = HeaderMap([("X-A", "1"), ("x-a", "é"), ("Empty", "")])
    assert (fields["x-A"], fields.get("EMPTY"), fields.get("none"), fields.get("none", "-")) == ("1, é", "", None, "-")
    assert (list(fields), len(fields), "X-a" in fields, "none" in fields) == (["x-a", "empty"], 2, True, False)
    assert repr(fields) == "<HeaderMap x-a, empty>"

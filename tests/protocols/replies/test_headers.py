"""`replies.headers`: every form of a wait, a quota and a media type is read, and malformed ones are ignored."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyclient.protocols.base import Quota
from cosyclient.protocols.replies.headers import media_type, parse_retry_after, quota, retry_after

WALL = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("+3", 3.0),
        ("-3", 0.0),
        ("-0.5", 0.0),
        ("120", 120.0),
        ("31622400", 31622400.0),
        ("31622401", None),
        ("9" * 18, None),
        ("9" * 400, None),
        ("1e3", None),
        ("inf", None),
        ("nan", None),
        ("0x10", None),
        ("1_000", None),
        ("٣", None),
        ("soon", None),
        ("", None),
        (" ", None),
        ("1, 2", None),
        ("x" * 5000, None),
        (None, None),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("Sunday, 06-Nov-94 08:49:47 GMT", 10.0),
        ("Sun Nov  6 08:49:47 1994", 10.0),
        ("Sun, 06 Nov 1994 09:49:47 +0100", 10.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:49:27 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Sun, 06 Nov 2094 08:49:37 GMT", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ("Fri, 15 Jan 99999999 08:00:00 GMT", None),
        ("Sun, 06 Nov", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str | None, seconds: float | None) -> None:
    """A past date is no wait, malformed values are ``None``."""
    assert parse_retry_after(value, wall=WALL) == seconds


@pytest.mark.parametrize("skew", [-600, 0, 600])
def test_a_date_is_measured_from_the_replys_own_date(skew: int) -> None:
    """The local clock may be minutes off."""
    headers = {
        "date": formatdate(WALL + skew, usegmt=True),
        "retry-after": formatdate(WALL + skew + 2, usegmt=True),
    }
    assert retry_after(headers, None, wall=WALL) == 2.0
    for nonsense in ("some day", "Thu, 01 Jan 1970 00:00:00 GMT"):
        assert retry_after(headers | {"date": nonsense}, None, wall=WALL + skew) == 2.0


@given(st.text(max_size=60))
def test_no_retry_after_raises(value: str) -> None:
    """Whatever a service writes there."""
    seconds = parse_retry_after(value, wall=WALL)
    assert seconds is None or seconds >= 0


@given(st.integers(0, 10**7))
def test_a_date_of_the_standard_library_is_read_back(ahead: int) -> None:
    """To the second."""
    assert parse_retry_after(formatdate(WALL + ahead, usegmt=True), wall=WALL) == ahead


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({}, None, None),
        ({}, 250, 0.25),
        ({}, 250.5, 0.2505),
        ({}, "1500", 1.5),
        ({}, -5, 0.0),
        ({}, True, None),
        ({}, [1], None),
        ({}, "soon", None),
        ({}, 10**400, None),
        ({}, float("nan"), None),
        ({}, 1e300, None),
        ({"retry-after": "2"}, 250, 2.0),
        ({"retry-after": "2"}, 2500, 2.5),
        ({"retry-after": "0"}, None, 0.0),
        ({"retry-after": "junk"}, 2500, 2.5),
        ({"retry-after-ms": "300"}, None, 0.3),
        ({"retry_after_ms": "300"}, None, 0.3),
        ({"x-ms-retry-after-ms": "300", "retry-after": "1"}, None, 1.0),
        ({"retry-after-ms": "junk"}, None, None),
    ],
)
def test_the_longest_wait_is_returned(headers: dict[str, str], body: object, seconds: float | None) -> None:
    """Of all headers and the body."""
    assert retry_after(headers, body, wall=WALL) == seconds


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        (
            {"ratelimit-policy": '"ip";q=100;w=1', "ratelimit": '"ip";r=37;t=1'},
            Quota(limit=100, window=1, remaining=37, reset=1),
        ),
        ({"ratelimit-policy": '"ip";q=100;w=1'}, Quota(limit=100, window=1)),
        ({"ratelimit": '"ip";r=0;t=0.5'}, Quota(remaining=0, reset=0.5)),
        ({"ratelimit": '"ip" ; r=3'}, Quota(remaining=3)),
        # The tightest: the smallest share left, else the lowest rate.
        (
            {
                "ratelimit-policy": '"burst";q=100;w=1, "day";q=10000;w=86400',
                "ratelimit": '"burst";r=90;t=1, "day";r=5;t=3600',
            },
            Quota(limit=10000, window=86400, remaining=5, reset=3600),
        ),
        (
            {"ratelimit-policy": '"burst";q=100;w=1,"day";q=10000;w=86400', "ratelimit": '"burst";r=1;t=1'},
            Quota(limit=100, window=1, remaining=1, reset=1),
        ),
        ({"ratelimit-policy": '"a";q=100;w=1, "b";q=300;w=60'}, Quota(limit=300, window=60)),
        ({"ratelimit-policy": '"a";q=100, "b";q=300;w=60'}, Quota(limit=300, window=60)),
        ({"ratelimit-policy": '"a";q=7'}, Quota(limit=7)),
        ({"ratelimit-policy": '"a";q=7;w=0'}, Quota(limit=7, window=0)),
        # Other units than requests are not ours to pace by.
        (
            {
                "ratelimit-policy": '"ip";q=9;w=1, "bytes";q=1000;w=1;qu="content-bytes"',
                "ratelimit": '"bytes";r=0;t=1, "ip";r=5;t=1',
            },
            Quota(limit=9, window=1, remaining=5, reset=1),
        ),
        ({"ratelimit-policy": '"ip";q=9;w=1;qu="requests";pk=:cHNk:'}, Quota(limit=9, window=1)),
        # Malformed is no information.
        ({"ratelimit": '"ip";r=-1'}, None),
        ({"ratelimit": '"ip";r=many'}, None),
        ({"ratelimit": '"ip";r'}, None),
        ({"ratelimit": '"ip;r=3'}, None),
        ({"ratelimit": "limit=100, remaining=37, reset=1"}, None),
        ({"ratelimit": ";;;,,,"}, None),
        ({"ratelimit": '"ip";r=3;t=1, junk'}, None),
        ({"ratelimit": '"ip";r=1' + "0" * 3000}, None),
        ({"ratelimit": '"ip";r=' + "9" * 15}, None),
        ({"ratelimit": '"' + "a" * 3000 + '";r=3'}, None),
        # The first drafts, and their forms with X-.
        (
            {"ratelimit-limit": "100", "ratelimit-remaining": "37", "ratelimit-reset": "2"},
            Quota(limit=100, remaining=37, reset=2),
        ),
        ({"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "1"}, Quota(limit=100, window=60, remaining=1)),
        (
            {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"},
            Quota(limit=60, remaining=0, reset=30),
        ),
        ({"x-ratelimit-remaining": "5"}, Quota(remaining=5)),
        ({"x-ratelimit-remaining": "x", "x-ratelimit-reset": "1m30s"}, None),
        (
            {"x-ratelimit-reset": "784111787", "date": "Sun, 06 Nov 1994 08:49:37 GMT"},
            Quota(reset=10),
        ),
        ({"x-ratelimit-remaining": "5", "x-ratelimit-reset": "784111787"}, Quota(remaining=5)),
        (
            {"ratelimit": '"ip";r=1;t=1', "x-ratelimit-remaining": "5"},
            Quota(remaining=1, reset=1),
        ),
    ],
)
def test_every_form_of_a_quota_is_read(headers: dict[str, str], expected: Quota | None) -> None:
    """That of the current draft and the older ones."""
    assert quota(headers) == expected


FIELDS = ["ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-reset", "ratelimit-remaining", "date"]


@given(st.dictionaries(st.sampled_from(FIELDS), st.text('"ip;rqwt=,01 .-', max_size=40) | st.text(max_size=20)))
def test_no_quota_raises(headers: dict[str, str]) -> None:
    """Whatever a service writes there."""
    quota(headers)


def test_control_characters_around_a_number_are_stripped() -> None:
    """Before its check and before its conversion alike."""
    found = quota({"x-ratelimit-limit": "60\x1f"})
    assert found is not None
    assert found.limit == 60.0
    assert retry_after({"retry-after-ms": "\x1c1500"}, None, wall=0.0) == 1.5


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("application/json", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
        ("application/vnd.cosyvoice.batch-frames;v=1", "application/vnd.cosyvoice.batch-frames"),
        ("", ""),
        ("json", ""),
        ("a/b c", ""),
        ("application/json\nX: y", ""),
        ("a" * 100 + "/b", ""),
    ],
)
def test_only_a_valid_media_type_is_returned(value: str, expected: str) -> None:
    """In lower case and without parameters."""
    assert media_type({"content-type": value}) == expected
    assert media_type({}) == ""

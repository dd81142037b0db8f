"""Parse reply headers: how long to wait, the service's limits, the media type of the body.

Retry-After and its dates from RFC 9110 (sections 10.2.3 and 5.6.7); ``RateLimit`` and ``RateLimit-Policy`` from
draft-ietf-httpapi-ratelimit-headers-10 (structured fields, RFC 9651), with the three fields of its first drafts and
their ``X-`` forms. Fields of more than 2 KiB and malformed ones count as absent, never as an error.
"""

from __future__ import annotations

import math
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from cosyclient.protocols.base import Quota
from cosyclient.util.numbers import float_in_range

if TYPE_CHECKING:
    from collections.abc import Mapping

# Names are in lower case here: a reply's mapping ignores case, and a plain dict of a test holds lower case.
_MILLISECOND_FIELDS: Final = ("retry-after-ms", "retry_after_ms", "x-ms-retry-after-ms")
_MAX_SECONDS: Final = 366 * 86400.0
_MAX_FIELD: Final = 2048

_NUMBER: Final = re.compile(r"[+-]?(?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})", re.ASCII)
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,63}/[a-z0-9!#$&^_.+-]{1,63}", re.ASCII)
_ITEM: Final = re.compile(r'\s*"([^"]*)"((?:\s*;\s*[a-z*][a-z0-9_.*-]*(?:=[^;]*)?)*)\s*', re.ASCII)


def media_type(headers: Mapping[str, str]) -> str:
    """Return the reply's media type in lower case without parameters; an empty string if it names none readable."""
    return _parse_media_type((headers.get("content-type") or "")[:_MAX_FIELD])


# A service sends the same one with every reply, and it is looked at several times.
@lru_cache(maxsize=64)
def _parse_media_type(field: str) -> str:
    value = field.split(";", 1)[0].strip().lower()
    return value if _MEDIA_TYPE.fullmatch(value) else ""


def is_json(kind: str) -> bool:
    """Return whether the media type *kind* is JSON."""
    return kind.endswith(("/json", "+json"))


def retry_after(headers: Mapping[str, str], body_ms: object, *, wall: float) -> float | None:
    """Return the seconds to wait: the longest that the headers or the body (*body_ms*) name, or ``None``.

    A date is measured from the reply's own Date, written by the same clock; from *wall* (epoch seconds) without one.
    """
    named = [_milliseconds(body_ms)]
    named += [_milliseconds(headers.get(name)) for name in _MILLISECOND_FIELDS]
    now, field = _date(headers.get("date") or ""), headers.get("retry-after")
    by_date = None if now is None else parse_retry_after(field, wall=now)
    named.append(parse_retry_after(field, wall=wall) if by_date is None else by_date)
    return max((seconds for seconds in named if seconds is not None), default=None)


def parse_retry_after(value: str | None, *, wall: float) -> float | None:
    """Return the seconds from *wall* (epoch seconds) that a Retry-After names: a number, or a date in any HTTP form.

    A past date is 0.0; more than a year and anything malformed is ``None``.
    """
    if value is None or len(value) > _MAX_FIELD:
        return None
    value = value.strip()
    if _NUMBER.fullmatch(value):
        return _clamped(float(value))
    moment = _date(value)
    return None if moment is None else _clamped(moment - wall)


def _date(value: str) -> float | None:
    try:
        date = parsedate_to_datetime(value)
        # The asctime form names no zone; every HTTP date is in UTC.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _milliseconds(value: object) -> float | None:
    if isinstance(value, str):
        # Stripped for the pattern and for float() alike: str.strip() removes more characters than float() ignores.
        value = value.strip()
        if not _NUMBER.fullmatch(value):
            return None
        value = float(value)
    number = float_in_range(value, -math.inf, 1000 * _MAX_SECONDS)
    return None if number is None else _clamped(number / 1000)


def _clamped(seconds: float) -> float | None:
    return max(0.0, seconds) if math.isfinite(seconds) and seconds <= _MAX_SECONDS else None


def quota(headers: Mapping[str, str]) -> Quota | None:
    """Return the tightest limit that the headers announce, or ``None`` if they announce none.

    Of several, the one with the smallest remaining share; without remaining counts, the lowest rate.
    """
    # Most replies: one look at the names in place of seven for fields, 0.6 µs a reply in place of 5.
    if "ratelimit" not in "\n".join(headers).lower():
        return None
    return (
        _structured_fields(headers)
        or _separate_fields(headers, "ratelimit-")
        or _separate_fields(headers, "x-ratelimit-")
    )


def _structured_fields(headers: Mapping[str, str]) -> Quota | None:
    # Quotas in other units than requests ("content-bytes", "concurrent-requests") do not pace requests.
    announced = _structured_items(headers.get("ratelimit-policy"))
    foreign = {name for name, params in announced if params.get("qu", "requests") != "requests"}
    policies = {
        name: (params["q"], params.get("w")) for name, params in announced if "q" in params and name not in foreign
    }
    limits = [
        (name, params)
        for name, params in _structured_items(headers.get("ratelimit"))
        if "r" in params and name not in foreign
    ]
    if limits:

        def share(entry: tuple[str, dict[str, Any]]) -> tuple[float, float]:
            name, params = entry
            limit = policies.get(name, (None, None))[0]
            return (params["r"] / limit if limit else params["r"], -params.get("t", 0.0))

        name, params = min(limits, key=share)
        limit, window = policies.get(name, (None, None))
        return Quota(limit=limit, window=window, remaining=params["r"], reset=params.get("t"))
    if not policies:
        return None
    limit, window = min(policies.values(), key=lambda policy: policy[0] / policy[1] if policy[1] else math.inf)
    return Quota(limit=limit, window=window)


def _structured_items(value: str | None) -> list[tuple[str, dict[str, Any]]]:
    """Return the items of a structured list with their parameters; an empty list if any of it is malformed."""
    if not value or len(value) > _MAX_FIELD:
        return []
    items = []
    for part in value.split(","):
        match = _ITEM.fullmatch(part)
        if not match:
            return []
        params: dict[str, Any] = {}
        for parameter in match[2].split(";")[1:]:
            key, _, raw = parameter.strip().partition("=")
            if key in ("q", "w", "r", "t"):
                number = _non_negative(raw)
                if number is None:
                    return []
                params[key] = number
            else:
                params[key] = raw.strip('"')
        items.append((match[1], params))
    return items


def _non_negative(raw: str | None) -> float | None:
    raw = (raw or "").strip()
    if not _NUMBER.fullmatch(raw):
        return None
    number = float(raw)
    return number if 0 <= number < 1e12 else None


def _separate_fields(headers: Mapping[str, str], prefix: str) -> Quota | None:
    # "100, 100;w=60" names the limit and then the policies it comes from.
    limit_field = (headers.get(f"{prefix}limit") or "")[:_MAX_FIELD]
    limit = _non_negative(limit_field.split(",")[0].split(";")[0])
    window = re.search(r";\s*w=(\d{1,9})\b", limit_field, re.ASCII)
    remaining = _non_negative(headers.get(f"{prefix}remaining"))
    reset = _non_negative(headers.get(f"{prefix}reset"))
    if reset is not None and reset > _MAX_SECONDS:
        # A point in time, not a duration: measured from the reply's own Date, without a local clock.
        now = _date(headers.get("date") or "")
        reset = None if now is None else _clamped(reset - now)
    if limit is None and remaining is None and reset is None:
        return None
    return Quota(limit=limit, window=float(window[1]) if window else None, remaining=remaining, reset=reset)

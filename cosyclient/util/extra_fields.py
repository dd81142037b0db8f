"""What a caller adds to requests: header fields, and members that a service knows and this library does not."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from cosyclient.errors import BadUtterance
from cosyclient.util.redaction import MASK, RedactedText

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}", re.ASCII)
_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?|", re.ASCII)
_MAX_HEADERS: Final = 64
_MAX_VALUE_LENGTH: Final = 8192
_MAX_EXTRA_BYTES: Final = 65536

# They delimit a request or concern one connection (RFC 9110, 7.6.1; RFC 9112, 6). Request smuggling exploits two
# servers that interpret them differently.
_FRAMING_FIELDS: Final = frozenset(
    {
        *("connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "proxy-connection"),
        *("proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
# They determine how the reply is decoded and how a retry is recognised.
_PROTOCOL_FIELDS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "content-encoding",
        "content-type",
        "idempotency-key",
        "inference-header-content-length",
    }
)
_RESERVED_PREFIXES: Final = ("sec-websocket-", "grpc-", "x-dashscope-sse")


class Headers(Mapping[str, str]):
    """Header fields that the user adds to requests, each once; no repr or error shows their values.

    Names are compared without regard to case. Raises `BadUtterance` for an invalid field or one that the client sets.
    """

    __slots__ = ("_fields", "_key")

    def __init__(self, given: Mapping[str, str]) -> None:
        if not isinstance(given, Mapping):
            raise BadUtterance(f"headers: must be a mapping of names to values, got {type(given).__name__}")
        if len(given) > _MAX_HEADERS:
            raise BadUtterance(f"headers: {len(given)} fields, at most {_MAX_HEADERS} are accepted")
        self._fields: dict[str, tuple[str, str]] = {}
        for name, value in given.items():
            _check_field(name, value)
            if name.lower() in self._fields:
                raise BadUtterance(f"headers: {name} is given twice")
            self._fields[name.lower()] = (name, value)
        pairs = sorted((name, value) for name, (_, value) in self._fields.items())
        # Values can be credentials, so the key is a digest.
        self._key = hashlib.sha256(repr(pairs).encode()).hexdigest() if pairs else ""

    @property
    def key(self) -> str:
        """Return a digest of the fields; equal exactly for equal fields."""
        return self._key

    def fields(self) -> tuple[tuple[str, str], ...]:
        """Return the names and values to send."""
        return tuple((name, RedactedText(value)) for name, value in self._fields.values())

    def merged(self, others: Mapping[str, str]) -> Headers:
        """Return these fields overridden by *others*."""
        over = Headers(others)
        return Headers(
            dict([*(self._fields[name] for name in self._fields.keys() - over._fields.keys()), *over.fields()])
        )

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._fields.values())

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"<Headers {', '.join(f'{name}: {MASK}' for name in self)}>"


def _check_field(name: object, value: object) -> None:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise BadUtterance(f"headers: {str(name)[:40]!r} is no valid header name")
    low = name.lower()
    if low in _FRAMING_FIELDS:
        raise BadUtterance(
            f"headers: {name} delimits the request or concerns the connection; only the client may set it"
        )
    if low in _PROTOCOL_FIELDS or low.startswith(_RESERVED_PREFIXES):
        raise BadUtterance(f"headers: {name} is set by the protocol; use protocol= or format= instead")
    if not isinstance(value, str):
        raise BadUtterance(f"headers: the value of {name} must be a str, got {type(value).__name__}")
    if len(value) > _MAX_VALUE_LENGTH:
        raise BadUtterance(
            f"headers: the value of {name} has {len(value)} characters, at most {_MAX_VALUE_LENGTH} are accepted"
        )
    if not _VALUE.fullmatch(value):
        raise BadUtterance(
            f"headers: the value of {name} must be printable ASCII without leading or trailing blanks (value not shown)"
        )


class Extra(Mapping[str, Any]):
    """Members of a request that the service knows and this library does not, as JSON; the protocol places them.

    Raises `BadUtterance` for what JSON cannot represent, and beyond 64 KiB.
    """

    __slots__ = ("_json", "_values")

    def __init__(self, given: Mapping[str, Any]) -> None:
        if not isinstance(given, Mapping):
            raise BadUtterance(f"extra: must be a mapping of names to values, got {type(given).__name__}")
        for name in given:
            if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable():
                raise BadUtterance(f"extra: {str(name)[:40]!r} is no valid member name")
        try:
            self._json = json.dumps(
                dict(given), ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
            )
            size = len(self._json.encode())
        except (TypeError, ValueError, RecursionError) as error:
            raise BadUtterance(f"extra: JSON cannot represent it: {type(error).__name__}") from None
        if size > _MAX_EXTRA_BYTES:
            raise BadUtterance(f"extra: {size} bytes, at most {_MAX_EXTRA_BYTES} are accepted")
        # A copy: the caller may change its mapping later.
        self._values: dict[str, Any] = json.loads(self._json)

    @property
    def key(self) -> str:
        """Return the members as canonical JSON; equal exactly for equal members."""
        return self._json

    def merged(self, others: Mapping[str, Any]) -> Extra:
        """Return these members overridden by *others*."""
        return Extra({**self._values, **Extra(others)._values})

    def form_fields(self) -> dict[str, str]:
        """Return the members as form fields: strings unchanged, anything else as JSON."""
        return {
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in self._values.items()
        }

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Extra) and self._json == other._json

    def __hash__(self) -> int:
        return hash(self._json)

    def __repr__(self) -> str:
        return f"<Extra {', '.join(self._values)}>"

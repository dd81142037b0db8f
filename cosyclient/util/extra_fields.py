"""What a caller adds to requests beyond what this library knows: header fields, and members of a protocol's own."""

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
_MOST_HEADERS: Final = 64
_MOST_OF_A_VALUE: Final = 8192
_MOST_EXTRA_BYTES: Final = 65536

# Where a request ends, and which connection it is for (RFC 9110, 7.6.1; RFC 9112, 6): two readers that disagree about
# these are how requests are smuggled.
_FRAMING: Final = frozenset(
    {
        *("connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "proxy-connection"),
        *("proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
# What the reply is read by, and what a retry is known by.
_READ: Final = frozenset(
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
    """Hold header fields to send along, each once; their values are secret in reprs and errors.

    Names are compared without regard to case. Raises `BadUtterance` for what is no field, or is the client's to say.
    """

    __slots__ = ("_fields", "_key")

    def __init__(self, given: Mapping[str, str]) -> None:
        if not isinstance(given, Mapping):
            raise BadUtterance(f"headers: must be a mapping of names to values, got {type(given).__name__}")
        if len(given) > _MOST_HEADERS:
            raise BadUtterance(f"headers: {len(given)} of them, at most {_MOST_HEADERS} are accepted")
        self._fields: dict[str, tuple[str, str]] = {}
        for name, value in given.items():
            _check_field(name, value)
            if name.lower() in self._fields:
                raise BadUtterance(f"headers: {name} is there twice")
            self._fields[name.lower()] = (name, value)
        said = sorted((name, value) for name, (_, value) in self._fields.items())
        # Fields can be credentials: what stands for them among keys must not show them.
        self._key = hashlib.sha256(repr(said).encode()).hexdigest() if said else ""

    @property
    def key(self) -> str:
        """Return what is equal exactly for equal fields, and shows none of them."""
        return self._key

    def fields(self) -> tuple[tuple[str, str], ...]:
        """Return names and values as they are sent."""
        return tuple((name, RedactedText(value)) for name, value in self._fields.values())

    def merged(self, others: Mapping[str, str]) -> Headers:
        """Return these with *others* laid over them."""
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
        raise BadUtterance(f"headers: {str(name)[:40]!r} is no name of a header field")
    low = name.lower()
    if low in _FRAMING:
        raise BadUtterance(f"headers: {name} says where a request ends or how it travels; the client alone writes it")
    if low in _READ or low.startswith(_RESERVED_PREFIXES):
        raise BadUtterance(f"headers: {name} is what the protocol says; choose another with protocol=, or format=")
    if not isinstance(value, str):
        raise BadUtterance(f"headers: the value of {name} must be a str, got {type(value).__name__}")
    if len(value) > _MOST_OF_A_VALUE:
        raise BadUtterance(
            f"headers: the value of {name} has {len(value)} characters, at most {_MOST_OF_A_VALUE} are accepted"
        )
    if not _VALUE.fullmatch(value):
        raise BadUtterance(
            f"headers: the value of {name} must be printable ASCII without blanks around it (value not shown)"
        )


class Extra(Mapping[str, Any]):
    """Hold members that a service knows and this library does not, as JSON; where they go is the protocol's to say.

    Raises `BadUtterance` for what JSON cannot hold, and beyond 64 KiB.
    """

    __slots__ = ("_json", "_values")

    def __init__(self, given: Mapping[str, Any]) -> None:
        if not isinstance(given, Mapping):
            raise BadUtterance(f"extra: must be a mapping of names to values, got {type(given).__name__}")
        for name in given:
            if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable():
                raise BadUtterance(f"extra: {str(name)[:40]!r} is no name of a member")
        try:
            self._json = json.dumps(
                dict(given), ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
            )
            size = len(self._json.encode())
        except (TypeError, ValueError, RecursionError) as error:
            raise BadUtterance(f"extra: JSON cannot hold it: {type(error).__name__}") from None
        if size > _MOST_EXTRA_BYTES:
            raise BadUtterance(f"extra: {size} bytes, at most {_MOST_EXTRA_BYTES} are accepted")
        # A copy of our own: what the caller changes later changes nothing here.
        self._values: dict[str, Any] = json.loads(self._json)

    @property
    def key(self) -> str:
        """Return what is equal exactly for equal members."""
        return self._json

    def merged(self, others: Mapping[str, Any]) -> Extra:
        """Return these with *others* laid over them, member by member."""
        return Extra({**self._values, **Extra(others)._values})

    def texts(self) -> dict[str, str]:
        """Return the members as a form has them: texts as they are, anything else as JSON."""
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

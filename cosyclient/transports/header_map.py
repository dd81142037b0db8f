"""The header fields of a reply, for every transport: looked up without regard to case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class HeaderMap(Mapping[str, str]):
    """Hold header fields by lower-case name; the values of a repeated field are joined with commas (RFC 9110, 5.3)."""

    __slots__ = ("_values",)

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        values: dict[str, str] = {}
        for name, value in fields:
            name = name.lower()
            values[name] = f"{values[name]}, {value}" if name in values else value
        self._values = values

    @classmethod
    def of_distinct(cls, values: dict[str, str]) -> HeaderMap:
        """Return the map of *values*, by lower-case name already; it is not copied."""
        made = cls.__new__(cls)
        made._values = values
        return made

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the field *name*, or *default*; without the exception that `Mapping.get` costs."""
        return self._values.get(name.lower(), default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<HeaderMap {', '.join(self._values)}>"

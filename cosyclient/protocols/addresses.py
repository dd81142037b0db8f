"""What an address says: the protocol that it identifies, and the protocol's route at its end.

People paste the whole route that their service's documentation shows; the route is cut off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from cosyclient.protocols.registry import ENTRIES
from cosyclient.wire import SCHEMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosyclient.protocols.entry import ProtocolEntry


class BaseAddress(NamedTuple):
    """Hold a service's base address, and the model that the route named, if it did."""

    url: str
    model: str | None = None


def default_protocol(medium: str = "http") -> str:
    """Return the protocol of an address that tells no more than its *medium*."""
    defaults = {entry.medium: entry.name for entry in ENTRIES.values() if entry.is_default}
    return defaults.get(medium, defaults["http"])


def guess(url: str) -> str:
    """Return the protocol that the host or the path of *url* identifies, else the default of its scheme."""
    parts = urlsplit(url)
    medium = next((medium for medium, schemes in SCHEMES.items() if parts.scheme in schemes), "http")
    by_host = [entry for entry in ENTRIES.values() if _is_host_of(parts.hostname or "", entry)]
    if by_host:
        return next((entry.name for entry in by_host if entry.medium == medium), by_host[0].name)
    found = [(len(route), entry.name) for entry, route, _ in _matches(parts.path) if entry.medium == medium]
    longest = {name for length, name in found if length == max(found)[0]}
    return longest.pop() if len(longest) == 1 else default_protocol(medium)


def without_route(url: str, protocol: str) -> BaseAddress:
    """Return *url* without the route of *protocol* at its end; a dialect has its protocol's routes, too."""
    parts = urlsplit(url)
    names = (protocol, protocol.partition(":")[0])
    found = [(route, base) for entry, route, base in _matches(parts.path) if entry.name in names]
    if not found:
        return BaseAddress(url)
    route, base = max(found, key=lambda each: len(each[0]))
    model = None
    if "/models/*" in route:
        model = unquote(parts.path.removeprefix(base).split("/")[route.split("/").index("*")])
    return BaseAddress(parts._replace(path=base).geturl().rstrip("/"), model)


def _is_host_of(host: str, entry: ProtocolEntry) -> bool:
    return any(host.endswith(each) if each.startswith(".") else host == each for each in entry.hosts)


def _matches(path: str) -> Iterator[tuple[ProtocolEntry, str, str]]:
    """Yield each entry with a route at the end of *path*, that route, and the path before it."""
    segments = path.rstrip("/").split("/")
    for entry in ENTRIES.values():
        for route in entry.routes:
            wanted = route.split("/")[1:]
            there = segments[-len(wanted) :]
            if len(segments) > len(wanted) and all(w in ("*", each) for w, each in zip(wanted, there, strict=True)):
                yield entry, route, "/".join(segments[: -len(wanted)])

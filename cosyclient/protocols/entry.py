"""The records in which a protocol's package declares it: its names, addresses and the probes that recognise it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Rank(IntEnum):
    """Order the probes of all protocols: the lower are sent first, and the first match decides.

    Within a rank the order is that of the registry.
    """

    PREFERRED = 0
    """Matches the protocol to use where a service offers several."""
    NAMED = 1
    """Matches a server that states its own name."""
    OWN = 2
    """Matches a route or a member that no other server has."""
    COMMON = 3
    """Matches what several servers have; those with something of their own are recognised by then."""
    FALLBACK = 4
    """Matches a bare route; not sent to a service that refuses access, for it has not answered anything yet."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold the reply to a probe; ``document`` is its JSON, ``None`` if it has none."""

    status: int
    headers: Mapping[str, str]
    document: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Recognise a service by one request that costs nothing: a GET, or a POST of ``body``.

    ``matches`` is pure: ``detect`` sends each request once and shows its answer to all probes with that request.
    """

    path: str
    matches: Callable[[Answer], bool]
    body: bytes | None = None
    rank: Rank = Rank.OWN

    @property
    def method(self) -> str:
        """Return the method of the request."""
        return "GET" if self.body is None else "POST"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRoute:
    """Say where a server states its version, and what older versions do that no reply shows."""

    server: str
    path: str
    notes: tuple[tuple[tuple[int, int], str], ...] = ()
    """What holds before each version, given as (major, minor)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolEntry:
    """Declare one protocol, or one dialect of it, under the ``name`` that ``protocol=`` takes.

    ``implementation`` is ``module:Class`` and imported on first use, so that a protocol may need an optional package.
    ``description`` is one line for ``cosyclient protocols``.
    """

    name: str
    implementation: str
    description: str
    medium: str = "http"
    is_default: bool = False
    """Whether an address over this medium means it when nothing else tells the protocol."""
    hosts: tuple[str, ...] = ()
    """Hosts that serve nothing else; one that begins with a dot stands for all hosts below it."""
    routes: tuple[str, ...] = ()
    """Ends of paths that are its own; ``*`` is one segment. They are cut off a base address, and may identify it."""
    probes: tuple[Probe, ...] = ()
    version_route: VersionRoute | None = None

    @property
    def family(self) -> str:
        """Return the name without the dialect."""
        return self.name.partition(":")[0]

    @property
    def dialect(self) -> str:
        """Return the dialect, empty for the protocol itself."""
        return self.name.partition(":")[2]

    def with_dialect(
        self,
        dialect: str,
        description: str,
        *,
        hosts: tuple[str, ...] = (),
        routes: tuple[str, ...] = (),
        probes: tuple[Probe, ...] = (),
        version_route: VersionRoute | None = None,
    ) -> ProtocolEntry:
        """Return the entry of a *dialect*, which has the protocol's implementation, medium and version route."""
        return ProtocolEntry(
            name=f"{self.name}:{dialect}",
            implementation=self.implementation,
            description=description,
            medium=self.medium,
            hosts=hosts,
            routes=routes,
            probes=probes,
            version_route=version_route or self.version_route,
        )


def has_members(answer: Answer, *names: str) -> bool:
    """Return whether *answer* is a success with a JSON object that has all members of these *names*."""
    document = answer.document
    return answer.status == 200 and isinstance(document, dict) and all(name in document for name in names)


def first_model(answer: Answer) -> dict[str, Any]:
    """Return the first entry of a list of models in OpenAI's form, empty if there is none."""
    models = answer.document.get("data") if has_members(answer, "data") else None
    first = models[0] if isinstance(models, list) and models else None
    return first if isinstance(first, dict) else {}


def accepts_post(answer: Answer) -> bool:
    """Return whether the route refuses GET and names POST among what it allows."""
    return answer.status == 405 and "POST" in answer.headers.get("allow", "").upper()


def models_owned_by(owner: str) -> Probe:
    """Return a probe for a server that states *owner* as the owner of its models."""
    return Probe(
        path="/v1/models",
        matches=lambda answer: owner in str(first_model(answer).get("owned_by", "")).lower(),
        rank=Rank.NAMED,
    )


def openapi_route(route: str, *, without: tuple[str, ...] = (), rank: Rank = Rank.OWN) -> Probe:
    """Return a probe for a server whose OpenAPI description, as FastAPI makes it, has *route* and none of *without*."""

    def matches(answer: Answer) -> bool:
        paths = answer.document.get("paths") if has_members(answer, "paths") else None
        return isinstance(paths, dict) and route in paths and not any(other in paths for other in without)

    return Probe(path="/openapi.json", matches=matches, rank=rank)

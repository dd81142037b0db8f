"""Find out which protocol a service speaks, by requests that cost nothing; the protocols declare them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cosyclient.clock import Deadline
from cosyclient.errors import CosyError, Forbidden, Unauthorized
from cosyclient.protocols import entry as entries
from cosyclient.protocols.codecs.json_body import is_voice_name, read_prefix
from cosyclient.protocols.codecs.strict import parse_json
from cosyclient.protocols.entry import Answer, Rank, has_members
from cosyclient.protocols.registry import ENTRIES, entry_for
from cosyclient.util.redaction import single_line
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from cosyclient.clock import Clock
    from cosyclient.transports.base import Transport

_MAX_ANSWER_BYTES: Final = 1 << 20
_READ_TIMEOUT: Final = 5.0
_ACCESS_REFUSED: Final = frozenset({401, 403})
_VERSION: Final = re.compile(r"v?(\d{1,4})\.(\d{1,4})")


def detect(transport: Transport, clock: Clock) -> tuple[str, str] | None:
    """Return the protocol that the service behind *transport* speaks, and the answer that shows it.

    ``None`` if no answer shows one. Raises the `CosyError` of a service that cannot be reached, or that refuses access.
    """
    answers: dict[tuple[str, bytes | None], Answer | CosyError] = {}
    statuses: set[int] = set()
    probes = [(probe, entry.name) for entry in ENTRIES.values() for probe in entry.probes]
    for probe, name in sorted(probes, key=lambda each: each[0].rank):
        if probe.rank is Rank.FALLBACK and statuses & _ACCESS_REFUSED:
            break
        request = (probe.path, probe.body)
        if request not in answers:
            try:
                answers[request] = answer = _ask(transport, clock, *request)
                statuses.add(answer.status)
            except CosyError as error:
                answers[request] = error
        found = answers[request]
        if isinstance(found, Answer) and probe.matches(found):
            return name, f"{probe.method} {probe.path} answered {found.status}"
    failures = [found for found in answers.values() if isinstance(found, CosyError)]
    if failures and not statuses:
        raise failures[-1]
    if refused := statuses & _ACCESS_REFUSED:
        status = min(refused)
        kind = Unauthorized if status == 401 else Forbidden
        raise kind(f"HTTP {status} to the requests that identify its protocol", status=status)
    return None


def first_model(transport: Transport, clock: Clock) -> str | None:
    """Return the name of the first model in the service's list, ``None`` if it has no list in OpenAI's form."""
    try:
        answer = _ask(transport, clock, "/v1/models")
    except CosyError:
        return None
    name = entries.first_model(answer).get("id")
    return name if is_voice_name(name) and name.strip() else None


def server_version(transport: Transport, clock: Clock, protocol: str) -> dict[str, str]:
    """Return the version of the server that speaks *protocol*, and what to know of it; empty if it does not say."""
    route = entry_for(protocol).version_route
    if route is None:
        return {}
    try:
        answer = _ask(transport, clock, route.path)
    except CosyError:
        return {}
    version = answer.document.get("version") if has_members(answer, "version") else None
    if not isinstance(version, str) or not (numbers := _VERSION.match(version)):
        return {}
    found = (int(numbers[1]), int(numbers[2]))
    return {
        "version": f"{route.server} {single_line(version, 40)}",
        **{f"before {major}.{minor}": note for (major, minor), note in route.notes if found < (major, minor)},
    }


def _ask(transport: Transport, clock: Clock, path: str, body: bytes | None = None) -> Answer:
    headers = (("Accept", "application/json"), *((("Content-Type", "application/json"),) if body else ()))
    request = WireRequest(method="GET" if body is None else "POST", path=path, headers=headers, body=body or b"")
    reply = transport.send(request, deadline=Deadline.after(clock, 2 * _READ_TIMEOUT), read_timeout=_READ_TIMEOUT)
    try:
        content = read_prefix(reply, _MAX_ANSWER_BYTES)
        try:
            document = parse_json(content)
        except ValueError:
            document = None
        return Answer(reply.status, dict(reply.headers), document)
    finally:
        reply.close()

"""The batch protocol: up to 64 texts in one request."""

from __future__ import annotations

from typing import Final

from cosyclient.protocols.entry import Answer, Probe, ProtocolEntry, Rank, accepts_post, openapi_route


def _answers_empty_batch(answer: Answer) -> bool:
    """Return whether an empty batch is answered with no results, or refused with problem details.

    Problem details with 404 or 405 are about the path, not about the batch.
    """
    problem = answer.headers.get("content-type", "").startswith("application/problem+json")
    found = answer.document
    if isinstance(found, dict):
        found = next((found[name] for name in ("results", "audios", "data") if name in found), None)
    return (answer.status == 200 and found == []) or (problem and answer.status not in (404, 405))


ENTRIES: Final = (
    ProtocolEntry(
        name="batch",
        implementation="cosyclient.protocols.batch.protocol:BatchProtocol",
        description="this project's batch protocol",
        is_default=True,
        routes=("/batch",),
        probes=(
            Probe(path="/batch", body=b'{"texts":[]}', matches=_answers_empty_batch, rank=Rank.PREFERRED),
            openapi_route("/batch", without=("/v1/audio/speech", "/audio/speech")),
            # A small server may have nothing but this route.
            Probe(path="/batch", matches=accepts_post, rank=Rank.FALLBACK),
        ),
    ),
)

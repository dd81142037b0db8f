"""The clients that are compared, each written as a competent user would write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Peer:
    """Describe one client and its usual load: callers in threads, or a job of many texts at once."""

    name: str
    label: str
    load: Literal["callers", "job"]
    sentence: str


PEERS: Final = {
    peer.name: peer
    for peer in (
        Peer(
            "a", "one text a request", "callers", "the report's 'before': urllib3, pool of 5, 5 s time-out, no policy"
        ),
        Peer("b", "asyncio, 200 at once", "job", "the report's own client: aiohttp, batches of 64, 3 tries, no pacing"),
        Peer("b20", "asyncio, 20 at once", "job", "the same, with the concurrency that happens to fit this quota"),
        Peer("c", "batch_synth", "job", "CosyClient as it comes: one call with all texts"),
        Peer("d", "synthesize", "callers", "CosyClient as it comes: one text a call"),
    )
}

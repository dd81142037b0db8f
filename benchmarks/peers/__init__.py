"""The clients that are compared, each written as a competent user would write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Peer:
    """Describe one client and its usual load: callers in threads, batch after batch, or a job of many texts at once."""

    name: str
    label: str
    load: Literal["callers", "bare", "job", "drain"]
    sentence: str
    callers: int = 0
    """Its threads or connections, where the load does not say."""


PEERS: Final = {
    peer.name: peer
    for peer in (
        Peer("raw", "the service alone", "drain", "raw sockets: a prepared request, replies thrown away", 50),
        Peer("bare", "a loop in 20 threads", "bare", "urllib3, orjson and pybase64, batches of 64, no policy", 20),
        Peer(
            "a", "one text a request", "callers", "the report's 'before': urllib3, pool of 5, 5 s time-out, no policy"
        ),
        Peer("b", "asyncio, 200 at once", "job", "the report's own client: aiohttp, batches of 64, 3 tries, no pacing"),
        Peer("c", "batch_synth", "job", "CosyClient as it comes: one call with all texts"),
        Peer("d", "synthesize", "callers", "CosyClient as it comes: one text a call"),
    )
}

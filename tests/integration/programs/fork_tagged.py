"""Fork with warm keep-alive sockets and a client in mid-work; both sides ask for tagged texts, one a request."""

from __future__ import annotations

import json
import sys
from typing import Any

from cosyclient import ClientConfig, CosyClient, PacingConfig
from cosyclient.emulator import running
from tests.integration.programs.calling import wrong_answers
from tests.integration.programs.fork_twice import gathered, in_child


def main(calls: int) -> None:
    """Print how many requests of each side brought another's audio, and how many the service saw."""
    config = ClientConfig(pacing=PacingConfig(burst=100_000))
    with (
        running(engine="echo") as emulator,
        CosyClient(emulator.url, requests_per_second=1e6, concurrency=8, max_batch=1, config=config) as client,
    ):
        assert wrong_answers(client, 100) == []
        warm = client.stats().pool.idle

        def below() -> dict[str, Any]:
            wrong = wrong_answers(client, calls)
            opened = client.stats().pool.opened
            client.close()
            return {"wrong": len(wrong), "opened": opened}

        child = in_child(below)
        parent = {"wrong": len(wrong_answers(client, calls)), "opened": client.stats().pool.opened}
        report = {"warm": warm, "parent": parent, "child": gathered(*child)}
        json.dump({**report, "requests": emulator.counters().requests}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]))

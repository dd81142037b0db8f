"""Use one client over gRPC on both sides of forks: between calls, and in the middle of a stream."""

from __future__ import annotations

import gc
import os
import sys

from cosyclient import CosyClient
from cosyclient.emulator.speech.echo import echo_text

FORKS = 2


def _in_child(client: CosyClient, name: str) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            gc.collect()
            texts = [f"{name} {number}" for number in range(2)]
            code = 0 if [echo_text(client.synthesize(text, timeout=20).audio) for text in texts] == texts else 2
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


def main(url: str) -> None:
    """Exit with 0 if every text came back as its own audio, in parent and child."""
    client = CosyClient(url, protocol="triton-grpc", max_retries=0)
    for number in range(FORKS):
        assert echo_text(client.synthesize(f"parent {number}").audio) == f"parent {number}"
        pid = _in_child(client, f"idle {number}")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "a child forked between calls"
    with client.stream("a text that takes its time") as stream:
        pieces = iter(stream)
        next(pieces)
        pid = _in_child(client, "amid")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "a child forked amid a stream"
        # The child dropped the parent's stream; in the parent it continues.
        for _ in pieces:
            pass
        assert echo_text(stream.speech().audio) == "a text that takes its time"
    assert client.stats().pool.opened == 1
    assert echo_text(client.synthesize("parent again").audio) == "parent again"
    client.close()


if __name__ == "__main__":
    main(sys.argv[1])

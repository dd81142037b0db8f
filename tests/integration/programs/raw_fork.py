"""Fork as uWSGI does, by the C library alone: Python's hooks are not called. The client was used before."""

from __future__ import annotations

import ctypes
import os
import sys

from cosyclient import CosyClient


def speak(client: CosyClient, who: str) -> int:
    """Return how many texts were spoken, one by one, in bulk and as a future."""
    texts = [f"{who} {number}" for number in range(10)]
    one_by_one = [client.synthesize(f"{text} alone").audio for text in texts]
    return len(one_by_one + client.batch_synth(texts) + [client.submit(f"{who} last").result(20).audio])


def main() -> int:
    """Return 0 if the child's calls are answered and the parent's go on."""
    client = CosyClient(requests_per_second=1e6)
    speak(client, "before")
    # With the interpreter's lock held, as uWSGI does: a thread that held it would not exist in the child.
    child = ctypes.PyDLL(None).fork()
    if child == 0:
        sys.stdout.write(f"child {speak(client, 'child')}\n")
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    sys.stdout.write(f"parent {speak(client, 'parent')}\n")
    client.close()
    return status


if __name__ == "__main__":
    sys.exit(main())

"""Fork as uWSGI does, by the C library alone: Python's hooks are not called. The client was used before."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time

from cosyclient import CosyClient
from cosyclient.pipeline.calls import workers
from cosyclient.util import timers


def speak(client: CosyClient, who: str) -> int:
    """Return how many texts were spoken, one by one, in bulk and as a future."""
    texts = [f"{who} {number}" for number in range(10)]
    one_by_one = [client.synthesize(f"{text} alone").audio for text in texts]
    return len(one_by_one + client.batch_synth(texts) + [client.submit(f"{who} last").result(20).audio])


def main() -> int:
    """Return 0 if the child's calls are answered and the parent's go on."""
    vars(workers)["IDLE"] = vars(timers)["IDLE"] = 0.05
    client = CosyClient(requests_per_second=1e6)
    speak(client, "before")
    # No other thread may run at this fork: the interpreter's own mutex, held by one of them, would stay locked for ever
    # in the child, where Python is told of nothing. The lock itself is held meanwhile, as uWSGI does.
    while threading.active_count() > 1:
        time.sleep(0.01)
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

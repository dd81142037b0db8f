"""Fork while six threads are in the midst of gRPC calls; each child speaks, in bulk and by futures."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections import Counter

from cosyclient import CosyClient


def main(url: str, forks: int) -> None:
    """Print how the children ended."""
    client = CosyClient(url, voice="中文女", requests_per_second=1e6)
    over = threading.Event()

    def calls(name: int) -> None:
        number = 0
        while not over.is_set():
            client.synthesize(f"parent {name} {number}")
            number += 1

    client.synthesize("warm")
    threads = [threading.Thread(target=calls, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    codes: Counter[int] = Counter()
    dice = random.Random(8)
    for fork in range(forks):
        time.sleep(dice.uniform(0.0, 0.04))
        if (pid := os.fork()) == 0:
            code = 1
            try:
                futures = [client.submit(f"future {fork} {number}") for number in range(5)]
                client.batch_synth([f"child {fork} {number}" for number in range(30)])
                code = len([future.result(10) for future in futures]) - 5
            finally:
                os._exit(code)
        codes[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])] += 1
    over.set()
    for thread in threads:
        thread.join()
    client.close()
    sys.stdout.write(f"{dict(codes)}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

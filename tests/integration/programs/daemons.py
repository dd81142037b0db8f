"""End while daemon threads are in the midst of calls, and others begin new ones: the interpreter must not stumble."""

import sys
import threading

from cosyclient import CosyClient, CosyError

client = CosyClient(requests_per_second=1000, timeout=600)


def calls(number: int) -> None:
    """Call until the interpreter is gone; once no thread can be started any more, calls are refused."""
    count = 0
    while True:
        try:
            client.synthesize(f"daemon {number} text {count}")
        except (CosyError, RuntimeError):
            return
        count += 1


if __name__ == "__main__":
    for number in range(8):
        threading.Thread(target=calls, args=(number,), daemon=True).start()
    for number in range(100):
        client.synthesize(f"main {number}")
    sys.stdout.write("the end\n")

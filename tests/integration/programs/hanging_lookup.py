"""Give up a call while the system's resolver hangs, and end."""

import socket
import sys
import time
from typing import Any

from cosyclient import CosyClient, CosyError

real = socket.getaddrinfo


def hangs(host: str, port: int, *rest: Any) -> Any:
    """Hang where a name has to be asked for."""
    if host == "tts.test" and len(rest) < 4:
        time.sleep(600)
    return real(host, port, *rest)


vars(socket)["getaddrinfo"] = hangs


def main() -> None:
    """Wait for a third of a second."""
    with CosyClient("http://tts.test", timeout=0.3) as client:
        try:
            client.synthesize("never received")
        except CosyError as error:
            sys.stdout.write(f"{type(error).__name__}\n")
    sys.stdout.write("the end\n")


if __name__ == "__main__":
    main()

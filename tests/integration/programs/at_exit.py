"""Speak as the last thing of all, in an exit handler that was registered before anything else."""

import atexit
import sys
from collections.abc import Callable

last: list[Callable[[], None]] = []
atexit.register(lambda: [each() for each in last])

from cosyclient import CosyClient  # noqa: E402 - handlers run in the reverse order of their registration
from cosyclient.emulator import echo_text  # noqa: E402

OPTIONS: dict[str, dict[str, str]] = {
    "http": {},
    "ws": {"protocol": "model-studio", "voice": "longanyang", "model": "cosyvoice-v3-flash"},
    "grpc": {"protocol": "grpc", "voice": "中文女"},
}
client = CosyClient(sys.argv[2], timeout=20, **OPTIONS[sys.argv[1]])  # type: ignore[arg-type]


def goodbye() -> None:
    """Call twice, with an idle connection and a new one."""
    for text in ("goodbye", "and thanks"):
        sys.stdout.write(echo_text(client.synthesize(text).audio) + "\n")
    client.close()


if __name__ == "__main__":
    last.append(goodbye)
    sys.stdout.write(echo_text(client.synthesize("hello").audio) + "\n")

"""Speak over HTTP and over a WebSocket where there is no `select.poll`, as eventlet leaves it."""

import select
import selectors
import sys

for name in ("poll", "epoll"):
    delattr(select, name)
vars(selectors)["DefaultSelector"] = selectors.SelectSelector

from cosyclient import CosyClient  # noqa: E402 - this is the order of things under eventlet
from cosyclient.emulator import echo_text  # noqa: E402


def main(url: str) -> None:
    """Synthesize two texts each, the second over the connection of the first."""
    plain = CosyClient(url)
    model_studio = url.replace("http", "ws", 1)
    other = CosyClient(model_studio, protocol="model-studio", voice="longanyang", model="cosyvoice-v3-flash")
    for client in (plain, other):
        with client:
            received = [echo_text(client.synthesize(text).audio) for text in ("one", "two")]
            sys.stdout.write(f"{received} over {client.stats().pool.opened}\n")


if __name__ == "__main__":
    main(sys.argv[1])

"""Submit work and fall off the end of the script, closing nothing."""

import sys

from cosyclient import CosyClient
from cosyclient.emulator import echo_text

client = CosyClient(requests_per_second=1000)


def spoken(text: str) -> None:
    """Print what was heard."""
    client.submit(
        text, on_done=lambda outcome: print(outcome.error or echo_text(outcome.unwrap().audio), flush=True)
    )


if __name__ == "__main__":
    client.synthesize("warm")
    for number in range(int(sys.argv[1])):
        spoken(f"text {number}")
    print("the end", flush=True)

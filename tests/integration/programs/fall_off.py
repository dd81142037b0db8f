"""Submit work and fall off the end of the script, closing nothing."""

import sys

from cosyclient import CosyClient
from cosyclient.emulator import echo_text

client = CosyClient(requests_per_second=1000)


def spoken(text: str) -> None:
    """Print the text in the audio."""
    # One write, because callbacks of several threads may print at once.
    client.submit(text, on_done=lambda outcome: sys.stdout.write(f"{echo_text(outcome.unwrap().audio)}\n"))


if __name__ == "__main__":
    client.synthesize("warm")
    for number in range(int(sys.argv[1])):
        spoken(f"text {number}")
    sys.stdout.write("the end\n")

"""Wait in a blocking call, in the way the first argument names, until somebody presses Ctrl-C."""

import sys

from cosyclient import CosyClient


def main(way: str) -> None:
    """Block; every call has ten minutes."""
    if way == "with":
        with CosyClient(timeout=600) as cosy:
            cosy.synthesize("never answered")
    client = CosyClient(timeout=600)
    if way == "bare":
        client.synthesize("never answered")
    elif way == "many":
        print(list(client.synthesize_many(["never answered"])))
    elif way == "as-finished":
        print(list(client.synthesize_many(["never answered"], ordered=False)))
    elif way == "future":
        client.submit("never answered").result()
    elif way == "close":
        client.submit("never answered")
        client.close()


if __name__ == "__main__":
    main(sys.argv[1])

"""Wait in a blocking call, in the way the first argument names, until Ctrl-C."""

import sys

from cosyclient import ClientConfig, CosyClient, TimeoutConfig


def main(way: str) -> None:
    """Block; nothing but the interrupt ends this within ten minutes."""
    client = CosyClient(timeout=600, config=ClientConfig(timeouts=TimeoutConfig(first_byte=600)))
    if way == "with":
        with client:
            client.synthesize("never answered")
    if way == "bare":
        client.synthesize("never answered")
    elif way == "many":
        print(list(client.synthesize_many(["never answered"])))
    elif way == "as-finished":
        print(list(client.synthesize_many(["never answered"], ordered=False)))
    elif way == "close":
        client.submit("never answered")
        client.close()


if __name__ == "__main__":
    main(sys.argv[1])

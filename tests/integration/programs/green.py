"""Speak from many greenlets after gevent has patched the world: they share one thread, and none may hold it up."""

import sys

from gevent import monkey

monkey.patch_all()

import gevent  # noqa: E402

from cosyclient import CosyClient  # noqa: E402
from cosyclient.emulator import echo_text  # noqa: E402


def main(url: str) -> None:
    """Synthesize fifty texts at once, and a batch beside them."""
    texts = [f"greenlet {number}" for number in range(50)]
    with CosyClient(url, max_batch=4) as client:
        singles = [gevent.spawn(client.synthesize, text) for text in texts]
        batch = gevent.spawn(client.batch_synth, [f"batch {number}" for number in range(50)])
        received = [echo_text(single.get(timeout=30).audio) for single in singles]
        assert received == texts
        assert [echo_text(audio) for audio in batch.get(timeout=30)] == [f"batch {number}" for number in range(50)]
    sys.stdout.write("the end\n")


if __name__ == "__main__":
    main(sys.argv[1])

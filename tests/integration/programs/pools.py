"""A batch job on a pool of processes, or of threads: one client at the top of the module, as in any script."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from multiprocessing.pool import ThreadPool

from cosyclient import CosyClient
from cosyclient.emulator import echo_text
from tests.integration.programs.calling import wrong_answers

client = CosyClient(requests_per_second=1000)


def speak(text: str) -> tuple[int, str]:
    """Return the process and the text in the audio."""
    return os.getpid(), echo_text(client.synthesize(text).audio)


def speak_page(page: list[str]) -> tuple[int, list[str]]:
    """Return the process and the text in the audio, in pages."""
    return os.getpid(), [echo_text(audio) for audio in client.batch_synth(page)]


def main(kind: str) -> None:
    """Print each text and the text in its audio."""
    assert wrong_answers(client, 40) == []
    texts = [f"{kind} {number}" for number in range(120)]
    pages = [texts[at : at + 12] for at in range(0, len(texts), 12)]
    # close and join, not the context manager, which kills the processes.
    pool = ThreadPool(8) if kind == "thread" else multiprocessing.get_context(kind).Pool(3)
    try:
        single = pool.map(speak, texts, chunksize=8)
        whole = pool.map(speak_page, pages, chunksize=1)
    finally:
        pool.close()
        pool.join()
    client.close()
    report = {
        "single": [received for _, received in single] == texts,
        "whole": [received for _, received in whole] == pages,
        "workers": len({pid for pid, _ in (*single, *whole)} - {os.getpid()}),
        "children": len(multiprocessing.active_children()),
    }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])

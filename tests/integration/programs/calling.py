"""Many calls from many threads, each with its own text."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from cosyclient.emulator import echo_text

if TYPE_CHECKING:
    from cosyclient import CosyClient


def wrong_answers(client: CosyClient, calls: int) -> list[str]:
    """Ask for *calls* texts that no other process asks for; return those whose audio was another's."""
    texts = [f"pid {os.getpid()} text {number}" for number in range(calls)]
    with ThreadPoolExecutor(8) as threads:
        received = [echo_text(speech.audio) for speech in threads.map(client.synthesize, texts)]
    return [text for text, answer in zip(texts, received, strict=True) if text != answer]

"""The renderer: each distinct text once, and a text that is too long fails alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cosyclient.emulator.speech.engines import ToneEngine
from cosyclient.emulator.speech.items import Audio, Batch, Failure
from cosyclient.emulator.speech.renderer import Renderer

if TYPE_CHECKING:
    from collections.abc import Hashable


class CountingEngine(ToneEngine):
    """Count what is rendered."""

    def __init__(self) -> None:
        self.rendered: list[str] = []

    def key(self, text: str, batch: Batch) -> Hashable:
        """Give every text its own audio."""
        return text, batch.voice, batch.format, batch.sample_rate

    def render(self, text: str, batch: Batch) -> Audio:
        """Count, and render a tone."""
        self.rendered.append(text)
        return super().render(text, batch)


def batch(*texts: str) -> Batch:
    """Return a batch of WAV."""
    return Batch(list(texts), "cosyvoice2", "default", "wav", 24000, 1.0, None, None)


def test_each_distinct_text_is_rendered_once() -> None:
    """Within a batch, in batches at the same time, and from the cache."""
    engine = CountingEngine()

    async def render() -> list[list[Audio | Failure]]:
        renderer = Renderer(engine)
        try:
            both = await asyncio.gather(renderer.render(batch("a", "b", "a")), renderer.render(batch("b")))
            return [*both, await renderer.render(batch("a"))]
        finally:
            renderer.close()

    first, second, third = asyncio.run(render())
    assert sorted(engine.rendered) == ["a", "b"]
    assert first[0] is first[2] is third[0]
    assert first[1] is second[0]


def test_a_text_that_is_too_long_fails_alone() -> None:
    """The others have audio; nothing is rendered for it."""
    engine = CountingEngine()

    async def render() -> list[Audio | Failure]:
        renderer = Renderer(engine)
        try:
            return await renderer.render(batch("a", "字" * 10_000))
        finally:
            renderer.close()

    fine, failed = asyncio.run(render())
    assert isinstance(fine, Audio)
    assert isinstance(failed, Failure)
    assert (failed.code, failed.retryable, engine.rendered) == ("text_too_long", False, ["a"])

"""The texts that every client is asked for."""

from __future__ import annotations

from benchmarks.harness.texts import CHARACTERS, DIFFERENT, texts


def test_texts_have_twenty_characters_and_differ() -> None:
    """Equal texts in flight would share a request, which would favour us."""
    some = list(texts(5000, first=DIFFERENT - 5000))
    assert {len(text) for text in some} == {CHARACTERS}
    assert len(set(some)) == len(some)

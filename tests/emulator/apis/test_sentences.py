"""Sentences as the WebSocket APIs split them off a text that grows."""

from __future__ import annotations

import pytest

from cosyclient.emulator.apis.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "finished", "rest"),
    [
        ("", [], ""),
        ("One. Tw", ["One."], " Tw"),
        ("你好！世界。", ["你好！", "世界。"], ""),
        ("What?! Yes", ["What?!"], " Yes"),
        ("……。\n", [], ""),
    ],
)
def test_finished_sentences_are_split_off(text: str, finished: list[str], rest: str) -> None:
    """With their marks; those without a pronounceable character are dropped."""
    assert split_sentences(text, everything=False) == (finished, rest)


def test_everything_includes_the_rest() -> None:
    """Unless it has nothing to pronounce."""
    assert split_sentences("One. Tw", everything=True) == (["One.", " Tw"], "")
    assert split_sentences("One. …", everything=True) == (["One."], "")

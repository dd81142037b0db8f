"""The times of words, which divide the audio among the characters."""

from __future__ import annotations

from cosyclient.emulator.speech.timings import word_timings


def test_a_word_is_a_han_character_or_a_run_of_letters() -> None:
    """With its place in the text; punctuation and spaces take no time."""
    found = word_timings("你, world！", 100, 600)
    assert [tuple(word) for word in found] == [("你", 0, 1, 100, 200), ("world", 3, 8, 200, 700)]


def test_words_follow_each_other_without_a_gap() -> None:
    """From the beginning of the audio to its end, however it divides."""
    found = word_timings("一二三 four", 0, 1001)
    assert [word.end_ms for word in found[:-1]] == [word.begin_ms for word in found[1:]]
    assert (found[0].begin_ms, found[-1].end_ms) == (0, 1001)


def test_punctuation_has_no_words() -> None:
    """And divides by no zero."""
    assert word_timings("……！", 0, 300) == []

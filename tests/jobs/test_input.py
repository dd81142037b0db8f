"""Input lines: texts, options, ids, and the errors of lines that cannot be used."""

from __future__ import annotations

import io

import pytest

from cosyclient.errors import ConfigurationError
from cosyclient.jobs.input import FieldNames, Line, open_input, read_lines


def _lines(content: bytes, *, jsonl: bool = False, names: FieldNames | None = None) -> list[Line]:
    return list(read_lines(io.BytesIO(content), jsonl=jsonl, names=names))


def test_each_non_blank_line_is_a_text_with_its_number_as_id() -> None:
    lines = _lines("\ufeffone \n\n 你好\n".encode())
    assert [(line.number, line.id, line.text) for line in lines] == [(1, "00001", "one"), (3, "00003", "你好")]


def test_members_of_a_jsonl_line_are_text_id_options_and_the_rest() -> None:
    (line,) = _lines(
        b'{"say": "hi", "key": 7, "speed": 1.5, "speaker": "A"}', jsonl=True, names=FieldNames("say", "key")
    )
    assert (line.text, line.id, line.options, line.extra) == ("hi", 7, {"speed": 1.5}, {"speaker": "A"})


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"text": ', "malformed JSON"),
        (b'["text"]', "must be an object"),
        (b'{"text": 5}', 'must be an object with a string "text"'),
        (b'{"text": "a", "id": [1]}', "id: must be a string or a number, not a list"),
        (b'{"text": "a", "speed": {}}', "speed: must be a plain value, not an object"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b"[" * 100_000, "malformed JSON"),
    ],
)
def test_a_bad_line_carries_its_error_and_the_next_is_read(raw: bytes, message: str) -> None:
    bad, good = _lines(raw + b'\n{"text": "b"}', jsonl=True)
    assert message in str(bad.error)
    assert (good.number, good.text, good.error) == (2, "b", None)


@pytest.mark.parametrize(
    ("text", "id"), [("", "id"), ("speed", "id"), ("text", "voice"), ("same", "same")]
)  # fmt: skip
def test_field_names_that_mean_something_else_are_refused(text: str, id: str) -> None:
    with pytest.raises(ConfigurationError, match="--text-field|--id-field"):
        FieldNames(text, id)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"INPUT: /nowhere\.txt: No such file"):
        open_input("/nowhere.txt")

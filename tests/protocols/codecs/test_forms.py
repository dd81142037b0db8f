"""`codecs.forms`: forms are deterministic, standard parsers read them, and their size has an upper bound."""

from __future__ import annotations

from email.parser import BytesParser
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyclient.errors import BadUtterance
from cosyclient.protocols.codecs.forms import URLENCODED, encode_form, max_form_bytes, path_segment
from cosyclient.voices import Prompt
from tests.test_voices import recording

PROMPT = Prompt(recording())
FIELDS = st.dictionaries(
    st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1),
    st.text(st.characters(codec="utf-8")),
    max_size=4,
)


@given(FIELDS)
def test_a_form_without_a_file_is_urlencoded(fields: dict[str, str]) -> None:
    """Its bound is its size."""
    kind, body = encode_form(fields)
    assert kind == URLENCODED
    assert dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(fields))) == fields
    assert max_form_bytes(fields) == len(body)


@given(FIELDS)
def test_a_form_with_a_file_is_multipart(fields: dict[str, str]) -> None:
    """Another parser finds every field and the file; the same form has the same bytes, and no more than the bound."""
    kind, body = encode_form(fields, ("recording", PROMPT))
    parsed = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    *texts, file = [part for part in parsed.walk() if not part.is_multipart()]
    found = {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in texts}
    assert set(found) == set(fields)
    assert file.get_param("name", header="content-disposition") == "recording"
    assert file.get_payload(decode=True) == PROMPT.wav
    assert body.count(kind.partition("boundary=")[2].encode()) == len(fields) + 2
    assert encode_form(dict(fields), ("recording", PROMPT)) == (kind, body)
    assert len(body) <= max_form_bytes(fields, ("recording", PROMPT))


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_name_is_one_segment_of_a_path(name: str) -> None:
    """Except for those that mean a directory."""
    if name in (".", ".."):
        with pytest.raises(BadUtterance, match="model: "):
            path_segment("model", name)
        return
    segment = path_segment("model", name)
    assert not set(segment) & set("/?#;")
    assert unquote(segment) == name


@pytest.mark.parametrize("name", [".", ".."])
def test_a_segment_that_means_a_directory_is_refused(name: str) -> None:
    """It names the field."""
    with pytest.raises(BadUtterance, match=r"model: '\.+' cannot be part of a path"):
        path_segment("model", name)

"""What Alibaba's protocols have in common: the audio in one output."""

from __future__ import annotations

from typing import Any

import pytest

from cosyclient.errors import DecodeError
from cosyclient.protocols.alibaba.common import output_audio


@pytest.mark.parametrize("encoded", ["!", "AAE", "AA EC", "é", 5, ["AAEC"], b"AAEC"])
def test_an_output_of_anything_but_base64_text_is_a_retryable_error(encoded: object) -> None:
    """It may have been cut off."""
    with pytest.raises(DecodeError, match="not base64") as caught:
        output_audio({"audio": {"data": encoded}})
    assert caught.value.retryable


@pytest.mark.parametrize(
    "output", [{}, {"audio": None}, {"audio": {}}, {"audio": {"data": ""}}, {"audio": {"data": None}}]
)
def test_an_output_without_audio_has_none(output: dict[str, Any]) -> None:
    """The first and the last event of a stream carry none."""
    assert output_audio(output) == b""


def test_the_audio_of_an_output_is_decoded() -> None:
    """It is base64."""
    assert output_audio({"audio": {"data": "AAEC"}}) == b"\0\1\2"

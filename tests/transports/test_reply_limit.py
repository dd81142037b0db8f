"""The limit on a reply's size."""

from __future__ import annotations

import pytest

from cosyclient.errors import DecodeError
from cosyclient.transports.reply_limit import ReplyLimit


def test_the_limit_holds_to_the_byte_for_all_pieces_together() -> None:
    limit = ReplyLimit(10)
    limit.add(4)
    limit.add(6)
    assert limit.received_bytes == 10
    with pytest.raises(DecodeError, match=r"larger than 10 bytes \(wire\.max_reply_bytes\)"):
        limit.add(1)

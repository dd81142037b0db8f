"""`replies.peeked`: a reply reads the same after a look at its first bytes, and an early end is explained."""

from __future__ import annotations

import pytest

from cosyclient.errors import ConnectFailed, TransportError
from cosyclient.protocols.replies.peeked import PeekedReply, explain_early_end
from cosyclient.testing import ScriptedReply


@pytest.mark.parametrize("chunks", [[], [b""], [b"abc"], [b"a", b"", b"bcdefghijklm", b"n"], [b"a" * 100, b"b"]])
def test_the_content_is_unchanged(chunks: list[bytes | Exception]) -> None:
    """Its start has 12 bytes, or all if there are fewer."""
    whole = b"".join(chunk for chunk in chunks if isinstance(chunk, bytes))
    reply = PeekedReply(ScriptedReply(201, {"A": "b"}, chunks))
    assert whole.startswith(reply.start)
    assert len(reply.start) >= min(12, len(whole))
    assert (reply.status, reply.headers["a"]) == (201, "b")
    assert b"".join(reply.chunks()) == whole


def test_only_an_end_before_the_first_byte_is_explained() -> None:
    """Then the endpoint is not to blame; without a hint, or for a more specific error, nothing changes."""
    early = TransportError("it ended", sent=True, endpoint_fault=True)
    with pytest.raises(TransportError, match="it ended; the model is unknown") as caught:
        PeekedReply(ScriptedReply(200, {}, [b"", early]), hint="the model is unknown")
    assert not caught.value.endpoint_fault


@pytest.mark.parametrize(
    ("first", "hint", "kind"), [(b"a", "hint", TransportError), (b"", "", TransportError), (b"", "hint", ConnectFailed)]
)
def test_any_other_error_is_unchanged(first: bytes, hint: str, kind: type[TransportError]) -> None:
    """After a byte, without a hint, or where the error says more."""
    error = kind("it ended")
    blamed = error.endpoint_fault
    with pytest.raises(kind, match="^it ended$"):
        list(explain_early_end(ScriptedReply(200, {}, [first, error]).chunks(), hint))
    assert error.endpoint_fault is blamed

"""What the suites of the batch protocol share: read a whole reply, and check whose audio it gave to whom."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient.config import WireConfig
from cosyclient.errors import (
    CosyError,
)
from cosyclient.models import Speech, Utterance
from cosyclient.protocols.batch.protocol import BatchProtocol
from cosyclient.protocols.codecs import strict
from tests.protocols import wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.wire import WireReply


PLAIN = BatchProtocol(WireConfig())


@pytest.fixture(scope="module", params=["binascii", "pybase64"], autouse=True)
def base64_by(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a module's tests with the extra installed and without: they may not differ."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "binascii":
            patch.setattr(strict, "_fast_decoder", lambda: None)
        else:
            assert strict._fast_decoder() is not None
        yield


def decode(reply: WireReply, utterances: Sequence[Utterance]) -> tuple[dict[int, Any], CosyError | None]:
    """Return what was yielded by position, and the error that ended it; nothing may be yielded twice."""
    found: dict[int, Any] = {}
    try:
        for index, outcome in chain.from_iterable(PLAIN.decode(reply, utterances, wall=0.0)):
            assert index not in found
            found[index] = outcome
    except CosyError as error:
        return found, error
    return found, None


def assert_tagged(found: dict[int, Any], utterances: Sequence[Utterance]) -> None:
    """Check that every speech is the one of its text."""
    for index, speech in found.items():
        assert isinstance(speech, Speech)
        assert speech.audio == wire.tagged_wav(index)
        assert speech.fingerprint == utterances[index].fingerprint
        assert (speech.format, speech.sample_rate, speech.channels) == ("wav", wire.RATE, 1)
        assert speech.duration == pytest.approx((index + 1) / 100)

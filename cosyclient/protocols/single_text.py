"""The base class of protocols whose requests carry one text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosyclient.audio.format import PcmFormat
from cosyclient.protocols.capabilities import check_stream
from cosyclient.protocols.replies.errors import check_status, error_from_reply
from cosyclient.protocols.replies.headers import quota
from cosyclient.protocols.replies.pcm import speech_from_stream
from cosyclient.protocols.replies.speech import check_stream_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.config import WireConfig
    from cosyclient.errors import ServiceError
    from cosyclient.models import Speech, Utterance
    from cosyclient.protocols.base import Item, Quota
    from cosyclient.protocols.capabilities import Capabilities
    from cosyclient.wire import WireReply, WireRequest


class SingleTextProtocol:
    """Implements `WireProtocol` and `StreamingProtocol` for a service that takes one text per request.

    A subclass sets ``name`` and ``capabilities``, builds requests in `_request` and reads the samples of a reply in
    `_read_pcm`. It overrides `_read_speech` where a whole speech comes in another form than a stream, `weigh` where
    encoding is expensive, and `_error_from_reply` where the service has error replies of its own.
    """

    name: str
    capabilities: Capabilities

    def __init__(self, wire: WireConfig, *, dialect: str = "") -> None:
        pass

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body."""
        return len(self._request(utterance, "", stream=False).body)

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the request for the one of *utterances*; *key* identifies it across retries."""
        (utterance,) = utterances
        return self._request(utterance, key, stream=False)

    def encode_stream(self, utterance: Utterance, *, key: str) -> WireRequest:
        """Return the request for a stream of *utterance*'s samples."""
        check_stream(self.name, self.capabilities, utterance.settings)
        return self._request(utterance, key, stream=True)

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the text's speech when the reply is complete."""
        (utterance,) = utterances
        check_status(reply, utterances, wall=wall, make_error=self._error_from_reply)
        yield [(0, self._read_speech(reply, utterance, wall))]

    def decode_stream(self, reply: WireReply, utterance: Utterance, *, wall: float) -> Iterator[PcmFormat | bytes]:
        """Yield one `PcmFormat`, then samples as they arrive; their duration must be plausible for *utterance*."""
        check_status(reply, [utterance], wall=wall, make_error=self._error_from_reply)
        started = False
        for piece in check_stream_duration(utterance, self._read_pcm(reply, utterance, wall)):
            if not started and not isinstance(piece, PcmFormat):
                yield PcmFormat(utterance.settings.sample_rate)
            started = True
            yield piece

    def quota(self, reply: WireReply) -> Quota | None:
        """Return what the reply's headers announce of the service's limits, or of those of a proxy before it."""
        return quota(reply.headers)

    def _request(self, utterance: Utterance, key: str, *, stream: bool) -> WireRequest:
        """Return the request for *utterance*, as a *stream* of samples or as a whole speech."""
        raise NotImplementedError

    def _read_pcm(self, reply: WireReply, utterance: Utterance, wall: float) -> Iterator[PcmFormat | bytes]:
        """Yield samples as they arrive, before them their `PcmFormat` unless they are mono at the rate asked for.

        Return only when the service has stated that the audio is complete.
        """
        raise NotImplementedError

    def _read_speech(self, reply: WireReply, utterance: Utterance, wall: float) -> Speech:
        """Return the speech of a whole reply: here of the same samples as a stream has."""
        return speech_from_stream(utterance, check_stream_duration(utterance, self._read_pcm(reply, utterance, wall)))

    def _error_from_reply(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> ServiceError:
        """Return the error that an error reply stands for."""
        return error_from_reply(reply, utterances, wall=wall)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

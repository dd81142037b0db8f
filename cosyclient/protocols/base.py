"""The interfaces of a wire protocol: it encodes utterances into requests and decodes replies into speeches.

A protocol opens no socket and reads no clock. `cosyclient.protocols.single_text` and `cosyclient.protocols.sessions`
have base classes that implement most of it. `Capabilities` states as data what a protocol can do, and what it cannot do
is refused before anything is sent.

```python
from cosyclient import BadUtterance
from cosyclient.models import VoiceSettings
from cosyclient.protocols.base import Capabilities, check_settings

can = Capabilities(formats=("wav", "pcm"), speeds=(0.5, 2.0))
check_settings("mine", can, VoiceSettings(format="wav", speed=1.5))
try:
    check_settings("mine", can, VoiceSettings(format="mp3"))
except BadUtterance as error:
    print(error)  # format: protocol mine serves wav and pcm, not mp3
```
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from cosyclient.audio.format import PcmFormat
from cosyclient.protocols.capabilities import Capabilities, check_length, check_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.errors import CosyError
    from cosyclient.models import Speech, Utterance, VoiceSettings
    from cosyclient.voices import Voice
    from cosyclient.wire import WireReply, WireRequest

__all__ = [
    "Capabilities",
    "Item",
    "ListingProtocol",
    "PcmFormat",
    "Quota",
    "StreamingProtocol",
    "TextInProtocol",
    "UploadingProtocol",
    "VoiceUpload",
    "WireProtocol",
    "check_length",
    "check_settings",
]

Item: TypeAlias = "tuple[int, Speech | CosyError]"
"""A position in the batch, and the speech of the text there or its error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Hold what a reply announces of the service's limits; ``None`` for what it does not say or nobody can read.

    ``limit`` requests per ``window`` seconds are allowed, ``remaining`` are left, ``reset`` seconds until refill.
    """

    limit: float | None = None
    window: float | None = None
    remaining: float | None = None
    reset: float | None = None


@dataclass(frozen=True, slots=True)
class VoiceUpload:
    """Hold a recorded voice that a service shall store as *name*; *consent* is the speaker's, where it is asked for."""

    voice: Voice
    name: str
    consent: str | None = None


class WireProtocol(Protocol):
    """Encode and decode one way of serving CosyVoice; one instance serves all threads of a client."""

    name: str
    capabilities: Capabilities

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body."""

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the request for *utterances*, which share their settings; *key* identifies it across retries."""

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield speeches and errors as soon as they arrive, those that arrive together in one list.

        Every position comes exactly once. Raises the `ServiceError` of an error reply, or `DecodeError` or
        `TransportError` when the reply breaks off; what was yielded before stays valid. *wall* is the present in epoch
        seconds, for dates in headers.
        """

    def quota(self, reply: WireReply) -> Quota | None:
        """Return what the reply's headers announce of the service's limits."""


@runtime_checkable
class StreamingProtocol(WireProtocol, Protocol):
    """Receive audio while it is made."""

    def encode_stream(self, utterance: Utterance, *, key: str) -> WireRequest:
        """Return the request for a stream of *utterance*'s samples."""

    def decode_stream(self, reply: WireReply, utterance: Utterance, *, wall: float) -> Iterator[PcmFormat | bytes]:
        """Yield one `PcmFormat`, then samples as they arrive; a piece may end inside a sample.

        Returns only when the service has stated, by the means of its protocol, that the audio is complete. Raises the
        `ServiceError` of an error, before the format or amid the samples, `DecodeError` or `TransportError`.
        """


@runtime_checkable
class TextInProtocol(StreamingProtocol, Protocol):
    """Send text while it is written, through a `DuplexReply`."""

    def encode_duplex(self, settings: VoiceSettings, *, key: str) -> WireRequest:
        """Return the request that opens a session; its texts follow through the reply's ``send_text``."""


@runtime_checkable
class UploadingProtocol(WireProtocol, Protocol):
    """Upload recorded voices that the service stores."""

    def encode_upload(self, upload: VoiceUpload) -> WireRequest:
        """Return the request that sends *upload*."""

    def decode_upload(self, reply: WireReply, upload: VoiceUpload, *, wall: float) -> str:
        """Return the name by which the voice is chosen from now on; raises like `decode`."""


@runtime_checkable
class ListingProtocol(WireProtocol, Protocol):
    """List the voices of the service."""

    def encode_voices(self) -> WireRequest:
        """Return the request for the list of voices."""

    def decode_voices(self, reply: WireReply, *, wall: float) -> list[str]:
        """Return the names of the voices; raises like `decode`."""

"""One form of a protocol's reply, for the contract of all protocols; each family has its cases in a `cases` module."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cosyclient.models import VoiceSettings
from cosyclient.testing import ScriptedReply
from tests.protocols import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, kw_only=True)
class ProtocolCase:
    """Say how one protocol's service answers, in one of its forms.

    *whole* gives the body that answers so many texts with *audio* of each position, which is that of `wire.tagged_wav`
    in the format of *settings*; *media_type* is the body's, *also* what is believed as well. *keeps* says whether items
    before a cut are known to be whole, *framed* whether the bytes alone show that they are all, *keyed* whether a
    request carries its key. *headers* come beside the media type, *messages* says that the body is a row of messages,
    which a transport hands on whole or not at all. *text* is what is asked for where the audio's length has to fit it.
    """

    protocol: str
    form: str
    media_type: str
    whole: Callable[[int], bytes]
    keeps: bool
    most: int = 64
    audio: Callable[[int], bytes] = wire.tagged_wav
    settings: VoiceSettings = field(default_factory=VoiceSettings)
    also: tuple[str, ...] = ()
    framed: bool = True
    keyed: bool = True
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    messages: bool = False

    def pieces(self, body: bytes, split: int = 0) -> list[bytes]:
        """Return what a transport makes of this body, in pieces of *split* bytes where it knows no messages."""
        return wire.messages(body) if self.messages else wire.pieces(body, split)

    def reply(self, body: bytes, split: int = 0) -> ScriptedReply:
        """Return a success with this body, in pieces of *split* bytes."""
        return ScriptedReply(200, {"Content-Type": self.media_type, **self.headers}, self.pieces(body, split))

    def __str__(self) -> str:
        return f"{self.protocol}-{self.form}"


SHORT = "好。"
"""A text that may last a hundredth of a second, as the tagged audio does."""

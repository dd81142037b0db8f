"""One API of the emulator, for the contract over real sockets: what it is asked, and what the emulator must receive."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cosyclient import BadRequest, CosyClient, CosyError, ServiceFault, Throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cosyclient.emulator import Emulator


def nothing(emulator: Emulator) -> dict[str, Any]:
    """Prepare nothing."""
    return {}


@dataclass(frozen=True, kw_only=True)
class ApiCase:
    """Say how one protocol is spoken to at the emulator.

    *options* are a client's, with what *prepare* returns, which may speak to the emulator first; *heard* is what the
    emulator has then understood, beside the text. *bad* are options that the protocol refuses, by their names.
    *switches* are those the emulator needs for it. *refusals* are what its face makes of a status asked for; *broken*
    are the faults that leave no whole reply.
    """

    protocol: str
    form: str = ""
    scheme: str = "http"
    path: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Emulator], dict[str, Any]] = nothing
    received: Mapping[str, Any] = field(default_factory=dict)
    bad: Mapping[str, Any] = field(default_factory=lambda: {"format": "opus"})
    mistakes: tuple[Mapping[str, Any], ...] = ()
    """What the client lets pass and the service refuses: options, and the ``text`` if it is that."""
    mistaken: type[CosyError] = BadRequest
    """What such a mistake becomes."""
    sample_rate: int = 24000
    streams: bool = True
    switches: Mapping[str, Any] = field(default_factory=dict)
    thorough: bool = True
    """Whether deadlines, retries and early leaving are tried too: one row for each way to answer is enough of them."""
    refusals: Mapping[int, type[Exception]] = field(
        default_factory=lambda: {400: BadRequest, 429: Throttled, 500: ServiceFault, 503: ServiceFault}
    )
    broken: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("cut", {"chunked": True, "share": 0.5}),
        ("cut", {"chunked": False, "share": 0.9}),
        ("reset", {"at": 0}),
        ("reset", {"at": 300}),
        ("empty", {}),
        ("garbage", {}),
        ("html", {}),
        ("truncated_audio", {}),
        ("not_audio", {}),
    )

    def client(self, emulator: Emulator, **more: Any) -> CosyClient:
        """Return a client of *emulator* that makes one attempt, unless *more* says otherwise."""
        if self.scheme == "grpc":
            url = emulator.grpc_url
        else:
            url = f"{emulator.url.replace('http', self.scheme, 1)}{self.path}"
        settings = {"protocol": self.protocol, "sample_rate": self.sample_rate, **self.options}
        return CosyClient(url, **{"max_retries": 0, **settings, **self.prepare(emulator), **more})

    def __str__(self) -> str:
        return f"{self.protocol}{'-' if self.form else ''}{self.form}"

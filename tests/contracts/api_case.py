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
    """One use of an API of the emulator, and what is expected of client and emulator.

    *options* are the client's, with those that *prepare* returns, which may call the emulator first; *received* is what
    the emulator understands of them, beside the text. *bad* are options that the protocol refuses, by their names.
    *emulator_options* are the settings it needs. *refusals* are the errors for injected statuses; *broken* are the
    faults after which no reply is whole.
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
    """Requests that the client sends and the service refuses: options, and the ``text`` where that is wrong."""
    mistaken: type[CosyError] = BadRequest
    """The error of such a request."""
    sample_rate: int = 24000
    streams: bool = True
    emulator_options: Mapping[str, Any] = field(default_factory=dict)
    thorough: bool = True
    """Whether deadlines, retries and cancelling are tested, too; one row for each form of reply is enough."""
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
        """Return a client of *emulator* that makes one attempt, unless *more* changes that."""
        if self.scheme == "grpc":
            url = emulator.grpc_url
        else:
            url = f"{emulator.url.replace('http', self.scheme, 1)}{self.path}"
        settings = {"protocol": self.protocol, "sample_rate": self.sample_rate, **self.options}
        return CosyClient(url, **{"max_retries": 0, **settings, **self.prepare(emulator), **more})

    def __str__(self) -> str:
        return f"{self.protocol}{'-' if self.form else ''}{self.form}"

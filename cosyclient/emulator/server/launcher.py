"""Start an emulator in a process of its own, control it, and end it reliably."""

from __future__ import annotations

import http.client
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from cosyclient.emulator.core.counters import Counters
from cosyclient.emulator.extra import EmulatorError, require_extra
from cosyclient.emulator.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_START = 60.0
_ANSWER = 30.0
_END = 5.0
_TAIL = 4000
_GRPC = ("grpc", "google.protobuf")

# The child finds exactly the modules its parent finds. It imports this package without running the
# library's ``__init__``: the service starts sooner, and never loads the client that it is there to test.
_CHILD = """
import json, sys, types
order = json.loads(sys.stdin.readline())
sys.path[:] = order["path"]
library = sys.modules["cosyclient"] = types.ModuleType("cosyclient")
library.__path__ = [order["library"]]
from cosyclient.emulator.server.server import serve_supervised
serve_supervised(order["settings"])
"""


@contextmanager
def running(settings: Settings | None = None, /, **options: Any) -> Iterator[Emulator]:
    """Run an emulator for the length of a ``with`` block; it accepts requests when the block begins.

    Give the fields of Settings by name, or a Settings record. Raises TypeError for a name that is no field, ValueError
    for a field that breaks its rule, and EmulatorError when the emulator does not start.
    """
    if settings is not None and options:
        raise TypeError("give either a Settings record or options by name, not both")
    known = [each.name for each in fields(Settings)]
    for name in options.keys() - set(known):
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        raise TypeError(f"unknown option {name}; {hint}")
    with Emulator(settings or Settings(**options)) as emulator:
        yield emulator


def serve(settings: Settings) -> None:
    """Serve in the foreground until Ctrl-C, the address on stderr."""
    require_extra(*(_GRPC if settings.grpc else ()))
    from cosyclient.emulator.server.server import serve_foreground

    def announce(url: str) -> None:
        sys.stderr.write(f"cosyvoice emulator ({settings.engine}) on {url}  Ctrl-C ends it\n")
        sys.stderr.flush()

    serve_foreground(settings, announce)


class Emulator:
    """A running emulator: its address, its counters and its faults.

    Building one starts the process; ``close()``, the end of a ``with`` block or the end of this process ends it.
    """

    def __init__(self, settings: Settings) -> None:
        require_extra(*(_GRPC if settings.grpc else ()))
        self.settings = settings
        self._owner = os.getpid()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(  # noqa: S603 - our own code in our own interpreter
            [sys.executable, "-P", "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C on the terminal is for the parent, which then ends the child in order
        )
        try:
            addresses = json.loads(self._first_line())
        except BaseException:
            self.close()
            raise
        self.url: str = addresses["url"]
        """Base URL of the service."""
        self.grpc_url: str = addresses["grpc"]
        """URL of the gRPC APIs, empty without ``grpc=True``."""
        self._control: int = addresses["control"]

    def __repr__(self) -> str:
        state = "running" if self._process.returncode is None else "closed"
        return f"<Emulator {getattr(self, 'url', 'starting')} engine={self.settings.engine} {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id of the emulator."""
        return self._process.pid

    def counters(self) -> Counters:
        """Return the counters of the service."""
        return Counters.from_json(self._request("GET", "/_emulator/counters"))

    def received(self) -> list[dict[str, Any]]:
        """Return what the service understood of the last requests, oldest first; batches are not among them."""
        received: list[dict[str, Any]] = self._request("GET", "/_emulator/received")
        return received

    def inject(self, fault: str, *, count: int = 1, **params: Any) -> None:
        """Apply a fault to the next *count* valid requests; raises ValueError for a wrong fault or parameter."""
        self._request("POST", "/_emulator/faults", {"fault": fault, "count": count, "params": params})

    def set_gpus(self, *, gpus: int | None = None, rtf: float | None = None) -> None:
        """Change the GPUs, while queued texts keep their finishing times; None keeps a value."""
        given = {"gpus": gpus, "rtf": rtf}
        self._request("POST", "/_emulator/gpus", {name: value for name, value in given.items() if value is not None})

    def reset(self) -> None:
        """Start over: counters, pending faults, quotas, GPU queue and kept replies."""
        self._request("POST", "/_emulator/reset")

    def close(self) -> None:
        """End the process and wait for it; closing twice, or in a forked child, does nothing."""
        if os.getpid() != self._owner or self._errors.closed:
            return
        try:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            try:
                self._process.wait(_END)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        finally:
            self._errors.close()

    def _first_line(self) -> bytes:
        process = self._process
        assert process.stdin is not None  # noqa: S101 - both pipes were requested
        assert process.stdout is not None  # noqa: S101
        library = Path(__file__).parents[2]
        order = {"path": sys.path, "library": str(library), "settings": self.settings.as_dict()}
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            deadline = time.monotonic() + _START
            try:
                process.stdin.write(json.dumps(order).encode() + b"\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass  # it has ended already, which its output shows, too
            while not line.endswith(b"\n"):
                if not selector.select(deadline - time.monotonic()):
                    raise EmulatorError(f"the emulator was not ready within {_START:.0f} s{self._tail()}")
                piece = os.read(process.stdout.fileno(), 4096)
                if not piece:
                    raise EmulatorError(f"the emulator did not start{self._tail()}")
                line += piece
        return line

    def _request(self, method: str, path: str, document: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._control, timeout=_ANSWER)
        try:
            key = self.settings.api_key
            connection.request(
                method,
                path,
                None if document is None else json.dumps(document),
                {} if key is None else {"Authorization": b"Bearer " + key.encode()},
            )
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException) as error:
            raise EmulatorError(f"the emulator at {self.url} does not answer: {error}{self._tail()}") from error
        finally:
            connection.close()
        if response.status == 422:
            raise ValueError(answer["detail"])
        if response.status != 200:
            raise EmulatorError(f"the emulator at {self.url} answered {response.status}: {answer}{self._tail()}")
        return answer

    def _tail(self) -> str:
        if self._errors.closed:
            return ""
        length = self._errors.seek(0, os.SEEK_END)
        # The child shares the file's position: pread leaves it at the end, where the child writes.
        tail = os.pread(self._errors.fileno(), _TAIL, max(0, length - _TAIL)).decode(errors="replace").strip()
        return f"; its output ended with:\n{tail}" if tail else ""

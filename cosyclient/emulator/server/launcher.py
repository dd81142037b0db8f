"""Start an emulator in a process of its own, talk to it, and end it for certain."""

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

# The child finds exactly the modules its parent finds. It enters this package without running the library's front
# door: the service starts sooner, and never holds the client that it is there to test.
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
def running(settings: Settings | None = None, /, **switches: Any) -> Iterator[Emulator]:
    """Run an emulator for the length of a ``with`` block; it accepts requests when the block begins.

    Give the switches of Settings by name, or a Settings record. ValueError names a switch that breaks its rule,
    EmulatorError says why the emulator did not start.
    """
    if settings is not None and switches:
        raise TypeError("give either a Settings record or switches by name, not both")
    with Emulator(settings or Settings(**switches)) as emulator:
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
    """Hold a running emulator: its address, its counters and its faults.

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
        """URL of the faces that speak gRPC, empty without ``grpc=True``."""
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
        """Ask the service what it saw."""
        return Counters.from_json(self._request("GET", "/_emulator/counters"))

    def received(self) -> list[dict[str, Any]]:
        """Ask the service what it understood of the last requests, oldest first; batches are not among them."""
        received: list[dict[str, Any]] = self._request("GET", "/_emulator/received")
        return received

    def inject(self, fault: str, *, count: int = 1, **params: Any) -> None:
        """Let the next *count* valid requests meet a fault; ValueError says what is wrong with the order."""
        self._request("POST", "/_emulator/faults", {"fault": fault, "count": count, "params": params})

    def set_gpus(self, *, gpus: int | None = None, rtf: float | None = None) -> None:
        """Go on with other GPUs, what is queued being finished as promised; None leaves the one as it is."""
        given = {"gpus": gpus, "rtf": rtf}
        self._request("POST", "/_emulator/gpus", {name: value for name, value in given.items() if value is not None})

    def reset(self) -> None:
        """Start over: counters, faults asked for, quotas, GPU queue and remembered replies."""
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
        assert process.stdin is not None  # noqa: S101 - we asked for both pipes
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
                pass  # it died already; the end of its output tells the same
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
        return f"; it said:\n{tail}" if tail else ""

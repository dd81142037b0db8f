"""A real gunicorn for the length of a ``with`` block, and callers for it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
GENEROUS = 60.0


@dataclass(frozen=True)
class Answer:
    """Hold one answer and what was asked for."""

    text: str
    status: int
    body: bytes
    media_type: str
    worker: int
    warmed_in: str


class Gunicorn:
    """Serve *app* with ``--preload``; it listens when this returns, and has left no process behind when it is stopped."""

    def __init__(self, app: str, *options: str, log: Path, **environment: str) -> None:
        self._log = log
        # The socket is made here and inherited: no free port to guess, and nobody has to wait for the server to listen.
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listener, log.open("wb") as output:
            self.port: int = listener.getsockname()[1]
            command = [sys.executable, "-m", "gunicorn", f"--bind=fd://{listener.fileno()}", "--preload", *options]
            self._process = subprocess.Popen(
                [*command, "--graceful-timeout=20", app],
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                cwd=log.parent,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the master."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server wrote so far."""
        return self._log.read_text(errors="replace")

    def ask(self, text: str) -> Answer:
        """Post *text* and return the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=GENEROUS)
        try:
            connection.request("POST", "/say", text.encode(), {"Connection": "close", "Content-Type": "text/plain"})
            reply = connection.getresponse()
            return Answer(
                text=text,
                status=reply.status,
                body=reply.read(),
                media_type=reply.headers.get_content_type(),
                worker=int(reply.headers.get("X-Worker", 0)),
                warmed_in=reply.headers.get("X-Warmed-In", ""),
            )
        finally:
            connection.close()

    def ask_all(self, texts: Iterable[str], callers: int) -> list[Answer]:
        """Post *texts* from so many threads at once."""
        with ThreadPoolExecutor(callers) as threads:
            return list(threads.map(self.ask, texts))

    def stop(self) -> int:
        """Ask the master to stop and return its exit code; every process of its group is gone then."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(GENEROUS)
        end = time.monotonic() + GENEROUS
        while self._any_left():
            assert time.monotonic() < end, f"gunicorn's processes are still there\n{self.log}"
            time.sleep(0.01)
        return code

    def _any_left(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._any_left():
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(GENEROUS)

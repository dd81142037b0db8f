"""A real gunicorn for the length of a ``with`` block, and callers for it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tests.support.waiting import FORK_IS_MEANT, GENEROUS, ROOT, eventually

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


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
    """Serve *app* with ``--preload``; it listens when this returns, and leaves no process behind when stopped."""

    def __init__(self, app: str, *options: str, log: Path, **environment: str) -> None:
        self._log = log
        # The socket is made here and inherited: no free port to guess, and no wait until the server listens.
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listener, log.open("wb") as output:
            self.port: int = listener.getsockname()[1]
            command = [sys.executable, "-m", "gunicorn", f"--bind=fd://{listener.fileno()}", "--preload", *options]
            self._process = subprocess.Popen(
                [*command, "--graceful-timeout=20", app],
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": FORK_IS_MEANT, **environment},
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
        eventually(lambda: not self._any_left(), "gunicorn's processes are all gone")
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

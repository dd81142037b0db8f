"""Names looked up aside: ``getaddrinfo`` knows no timeout, so a thread waits for it that nobody waits for."""

from __future__ import annotations

import _thread
import socket
import threading
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cosyclient.clock import Flag
from cosyclient.transports.sockets import Severed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cosyclient.clock import Clock

Address: TypeAlias = "tuple[int, int, int, str, Any]"

_JOIN: Final = 1.0
"""Seconds within which others who ask for the same name wait for the same answer; a lost packet may hold it for 5."""
_MOST: Final = 4
"""Lookups of one name that may hang at once; beyond, everybody waits for the newest."""
_SLICE: Final = 0.05
"""Seconds between two looks at whether the connection is still wanted."""


class Resolver:
    """Look up the addresses of names, each wait within what is granted to it.

    An answer is for those who waited for it and is not kept: how long it holds is the system's own cache's to know. A
    lookup that outlasts its callers ends by itself, on a daemon thread that keeps neither client nor interpreter.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # Guarded by _lock: what is under way, per name and port, the newest last.
        self._lookups: dict[tuple[str, int], list[_Lookup]] = {}

    def addresses(
        self, host: str, port: int, left: Callable[[], float], *, severed: Callable[[], bool]
    ) -> Sequence[Address]:
        """Return the addresses of *host*, waiting as long as *left* says and the connection is not *severed*.

        Raises `OSError`: `socket.gaierror` for a name that has none, `TimeoutError`, `Severed`.
        """
        try:
            return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass  # a name, for which somebody has to be asked
        lookup = self._lookup(host, port)
        try:
            while not lookup.done.wait(min(left(), _SLICE)):
                if severed():
                    raise Severed("shut down from our side")
        except TimeoutError:
            raise TimeoutError(f"the name {host} was not resolved in time") from None
        if lookup.error is not None:
            # Shared by all who waited, so its traceback is not to grow with each of them.
            raise type(lookup.error)(*lookup.error.args)
        return lookup.found

    def _lookup(self, host: str, port: int) -> _Lookup:
        lookup = _Lookup(host, port, self._clock.now())
        try:
            with self._lock:
                under_way = self._lookups.setdefault((host, port), [])
                if under_way and (lookup.began - under_way[-1].began < _JOIN or len(under_way) >= _MOST):
                    return under_way[-1]
                under_way.append(lookup)
            # Daemonic, and not waited for until it runs, which would cost three times as much as the rest.
            _thread.start_new_thread(self._run, (lookup,))
        except RuntimeError:
            # No thread is to be had, as at the interpreter's end: better unbounded than not at all.
            self._run(lookup)
        except BaseException:
            # An interrupt: nobody may wait for what nobody asks.
            self._forget(lookup)
            raise
        return lookup

    def _run(self, lookup: _Lookup) -> None:
        try:
            lookup.run()
        finally:
            self._forget(lookup)

    def _forget(self, lookup: _Lookup) -> None:
        lookup.done.set()
        with self._lock:
            under_way = [each for each in self._lookups.pop((lookup.host, lookup.port), ()) if each is not lookup]
            if under_way:
                self._lookups[lookup.host, lookup.port] = under_way

    def __repr__(self) -> str:
        return f"<Resolver {sum(map(len, self._lookups.values()))} lookups under way>"


class _Lookup:
    """Ask for one name's addresses, once, for any number of threads that wait."""

    def __init__(self, host: str, port: int, began: float) -> None:
        self.host = host
        self.port = port
        self.began = began
        self.found: Sequence[Address] = ()
        self.error: OSError | UnicodeError | None = None
        self.done = Flag()

    def run(self) -> None:
        """Find out, and wake who waits."""
        try:
            self.found = socket.getaddrinfo(self.host, self.port, 0, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self.error = error.with_traceback(None)
        finally:
            self.done.set()

"""Look up names under a deadline: ``getaddrinfo`` takes no timeout, so a thread of its own runs it.

Used by `Dialer` and by ``cosyclient doctor``.
"""

from __future__ import annotations

import _thread
import socket
import threading
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cosyclient.clock import Flag
from cosyclient.transports.sockets import Aborted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cosyclient.clock import Clock

Address: TypeAlias = "tuple[int, int, int, str, Any]"

_SHARED_FOR: Final = 1.0
"""Seconds within which callers who ask for the same name share one lookup; a lost packet may delay it by 5."""
_MAX_LOOKUPS_PER_NAME: Final = 4
"""Lookups of one name that may hang at once; beyond that, all callers wait for the newest."""
_POLL: Final = 0.05
"""Seconds between two looks at whether the connection was aborted."""


class Resolver:
    """Look up the addresses of names, each wait within what its caller has left.

    A result is shared by those who waited for it and is not kept: how long it holds only the system's own cache knows.
    A lookup that outlasts its callers ends by itself, on a daemon thread that holds up neither client nor interpreter.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # Guarded by _lock: the lookups under way, per name and port, the newest last.
        self._lookups: dict[tuple[str, int], list[_Lookup]] = {}

    def addresses(
        self, host: str, port: int, time_left: Callable[[], float], *, aborted: Callable[[], bool]
    ) -> Sequence[Address]:
        """Return the addresses of *host*, waiting as long as *time_left* says and *aborted* returns False.

        Raises `OSError`: `socket.gaierror` for a name that has none, `TimeoutError`, `Aborted`.
        """
        try:
            return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass  # a name, not an address
        lookup = self._lookup(host, port)
        try:
            while not lookup.done.wait(min(time_left(), _POLL)):
                if aborted():
                    raise Aborted
        except TimeoutError:
            raise TimeoutError(f"the name {host} was not resolved in time") from None
        if lookup.error is not None:
            # One error for all who waited: raised itself, its traceback would grow with each of them.
            raise type(lookup.error)(*lookup.error.args)
        return lookup.found

    def _lookup(self, host: str, port: int) -> _Lookup:
        """Return a lookup of *host* that is under way, or start one."""
        lookup = _Lookup(host, port, self._clock.now())
        try:
            with self._lock:
                under_way = self._lookups.setdefault((host, port), [])
                if under_way and (
                    lookup.began - under_way[-1].began < _SHARED_FOR or len(under_way) >= _MAX_LOOKUPS_PER_NAME
                ):
                    return under_way[-1]
                under_way.append(lookup)
            # threading.Thread would wait until the thread runs, which costs three times as much as all the rest.
            _thread.start_new_thread(self._run, (lookup,))
        except RuntimeError:
            # No thread can be started, as at the interpreter's end: an unbounded lookup is better than none.
            self._run(lookup)
        except BaseException:
            # An interrupt: no other caller may wait for a lookup that never runs.
            self._remove(lookup)
            raise
        return lookup

    def _run(self, lookup: _Lookup) -> None:
        try:
            lookup.run()
        finally:
            self._remove(lookup)

    def _remove(self, lookup: _Lookup) -> None:
        lookup.done.set()
        with self._lock:
            under_way = [each for each in self._lookups.pop((lookup.host, lookup.port), ()) if each is not lookup]
            if under_way:
                self._lookups[lookup.host, lookup.port] = under_way

    def __repr__(self) -> str:
        return f"<Resolver {sum(map(len, self._lookups.values()))} lookups under way>"


class _Lookup:
    """Look one name up, once, for any number of threads that wait for ``done``."""

    def __init__(self, host: str, port: int, began: float) -> None:
        self.host = host
        self.port = port
        self.began = began
        self.found: Sequence[Address] = ()
        self.error: OSError | UnicodeError | None = None
        self.done = Flag()

    def run(self) -> None:
        """Look it up, and wake the threads that wait."""
        try:
            self.found = socket.getaddrinfo(self.host, self.port, 0, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self.error = error.with_traceback(None)
        finally:
            self.done.set()

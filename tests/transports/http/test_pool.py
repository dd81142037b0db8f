"""A pool's places: one each, given back once, and nobody waits for one that will not come."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from cosyclient.clock import SystemClock
from cosyclient.testing import FakeClock
from cosyclient.transports.http.pool import Place, Places
from cosyclient.transports.sockets import Aborted

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.clock import Clock

PATIENCE = 30.0
"""Seconds after which a test gives up; none needs them."""


class Line:
    """Be a connection."""

    def __init__(self, *, worn: bool = False) -> None:
        self.opened = 1
        self.is_closed = False
        self.aborted = False
        self._worn = worn

    def worn(self, now: float, idle_limit: float) -> bool:
        return self._worn

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.aborted = True


def pool_of(size: int, clock: Clock | None = None) -> Places[Line]:
    return Places(size, clock or FakeClock(), 60.0)


def taken(pool: Places[Line], line: Line | None = None) -> Place[Line]:
    """Return a place, with *line* in it if it came without a connection."""
    place: Place[Line] = Place()
    pool.take(place, 0.0)
    if line is not None and place.connection is None:
        pool.fill(place, line)
    return place


def counts(pool: Places[Line]) -> tuple[int, int, int]:
    stats = pool.stats()
    return stats.in_use, stats.idle, stats.opened


def test_the_one_used_last_is_taken_first() -> None:
    pool, lines = pool_of(2), [Line(), Line()]
    places = [taken(pool, line) for line in lines]
    assert counts(pool) == (2, 0, 2)
    for place in places:
        pool.give_back(place, reusable=True)
    assert counts(pool) == (0, 2, 2)
    assert [taken(pool).connection for _ in lines] == lines[::-1]


@pytest.mark.parametrize("reusable", [True, False])
def test_giving_back_twice_does_nothing(reusable: bool) -> None:
    """Nor does giving back what was never taken; least of all does it take another's place away."""
    pool = pool_of(2)
    place, other, never = taken(pool, Line()), taken(pool, Line()), Place[Line]()
    for _ in range(3):
        pool.give_back(place, reusable=reusable)
        pool.give_back(never, reusable=reusable)
        assert counts(pool) == (1, int(reusable), 2)
    again = taken(pool)
    pool.give_back(place, reusable=reusable)
    assert counts(pool)[0] == 2
    for each in (again, other):
        pool.give_back(each, reusable=reusable)
    assert counts(pool)[0] == 0


def test_what_is_not_fit_to_be_used_again_is_closed_and_counted() -> None:
    pool, line = pool_of(1), Line()
    pool.give_back(taken(pool, line), reusable=False)
    assert line.is_closed
    assert counts(pool) == (0, 0, 1)
    closed = Line()
    place = taken(pool, closed)
    closed.close()
    pool.give_back(place, reusable=True)
    assert counts(pool) == (0, 0, 2)


def test_what_idled_too_long_is_let_go_of() -> None:
    pool, old = pool_of(2), Line(worn=True)
    first, second = taken(pool, old), taken(pool, Line())
    pool.give_back(first, reusable=True)
    pool.give_back(second, reusable=True)
    assert old.is_closed
    assert counts(pool) == (0, 1, 2)


def test_a_wait_ends_with_its_time() -> None:
    clock = FakeClock()
    pool = pool_of(1, clock)
    taken(pool)
    place: Place[Line] = Place()
    with pytest.raises(queue.Empty):
        pool.take(place, 5.0)
    assert clock.now() == 1005.0
    assert not place.held
    pool.give_back(place, reusable=False)
    assert counts(pool)[0] == 1


@pytest.mark.parametrize("end", ["given back", "shut"])
def test_whoever_waits_is_woken(end: str) -> None:
    class Meddling(FakeClock):
        def wait(self, gate: threading.Lock, seconds: float) -> bool:
            meddle()
            return super().wait(gate, seconds)

    clock = Meddling()
    pool = pool_of(1, clock)
    held = taken(pool, Line())
    meddle: Callable[[], object] = pool.shut
    if end == "shut":
        with pytest.raises(queue.Empty):
            pool.take(Place(), 5.0)
    else:
        meddle = lambda: pool.give_back(held, reusable=True)  # noqa: E731
        place: Place[Line] = Place()
        pool.take(place, 5.0)
        assert place.held
    assert clock.now() == 1000.0
    assert not pool._gates


def test_shutting_names_what_idles_and_what_is_lent() -> None:
    """And whoever has taken a place but not yet filled it hears of it then."""
    pool = pool_of(3)
    idle, lent = Line(), Line()
    given_back, held = taken(pool, idle), taken(pool, lent)
    late = taken(pool)
    pool.give_back(given_back, reusable=True)
    assert pool.shut() == ([idle], [lent])
    with pytest.raises(Aborted):
        pool.fill(late, Line())
    with pytest.raises(queue.Empty):
        taken(pool)
    for place in (held, late):
        pool.give_back(place, reusable=True)
    assert lent.is_closed
    assert counts(pool)[:2] == (0, 0)


def test_places_left_by_finalizers_are_collected_by_whoever_comes_next() -> None:
    pool, line = pool_of(1), Line()
    pool.orphans.append(taken(pool, line))
    place = taken(pool)
    assert line.is_closed
    assert place.connection is None
    assert not pool.orphans


def test_places_are_conserved_among_threads() -> None:
    """Many threads, few places: never more out than there are, and all are back."""
    pool = pool_of(3, SystemClock())
    out, most, lock = 0, 0, threading.Lock()

    def one(number: int) -> None:
        nonlocal out, most
        for turn in range(100):
            place: Place[Line] = Place()
            try:
                pool.take(place, PATIENCE if turn % 3 else 0.0001)
            except queue.Empty:
                continue
            else:
                if place.connection is None:
                    pool.fill(place, Line())
                with lock:
                    out += 1
                    most = max(most, out)
                with lock:
                    out -= 1
            finally:
                pool.give_back(place, reusable=bool((turn + number) % 4))
                pool.give_back(place, reusable=False)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(one, range(16)))
    assert most <= 3
    assert counts(pool)[0] == 0
    assert [taken(pool).held for _ in range(3)] == [True] * 3

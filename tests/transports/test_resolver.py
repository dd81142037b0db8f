"""A resolver that hangs: no caller waits longer than its deadline, and hanging threads do not pile up."""

from __future__ import annotations

import _thread
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient import ClientClosed, ConnectFailed, CosyClient, DeadlineExceeded
from cosyclient.clock import SystemClock
from cosyclient.testing import FakeClock
from cosyclient.transports.resolver import Resolver
from cosyclient.transports.sockets import Aborted
from tests.support.hostile import answers, hostile
from tests.support.waiting import eventually, finish, start
from tests.transports.wire import ask, made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REAL = socket.getaddrinfo
HERE = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))
HANG = 60.0


class Names:
    """Stand for the system's resolver: literal addresses are read, names hang until ``go_on`` is set."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.asked: list[int] = []
        self.answered = 0
        self.answer: Any = [HERE]

    def __call__(self, host: str, port: int, *rest: Any) -> Any:
        if len(rest) == 4 and rest[3] == socket.AI_NUMERICHOST:
            return REAL(host, port, *rest)
        self.asked.append(threading.get_ident())
        self.go_on.wait(HANG)
        self.answered += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @property
    def hanging(self) -> int:
        """Return how many lookups are under way."""
        return len(self.asked) - self.answered


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names)
    yield names
    names.go_on.set()
    eventually(lambda: not names.hanging, "the lookups end")


def countdown(seconds: float) -> Callable[[], float]:
    end = time.monotonic() + seconds

    def time_left() -> float:
        if (seconds_left := end - time.monotonic()) <= 0:
            raise TimeoutError("no time is left")
        return seconds_left

    return time_left


def no() -> bool:
    return False


@pytest.mark.parametrize("literal", ["127.0.0.1", "::1", "fe80::1%1"])
def test_literal_addresses_need_no_thread(names: Names, literal: str) -> None:
    """They are parsed in the calling thread."""
    found = Resolver(SystemClock()).addresses(literal, 80, countdown(30), aborted=no)
    assert found[0][4][1] == 80
    assert names.asked == []


def test_callers_that_want_one_name_share_one_lookup(names: Names) -> None:
    """A pool that opens fifty connections at once looks the name up once."""
    resolver = Resolver(SystemClock())
    waiters = set()

    def time_left() -> float:
        waiters.add(threading.get_ident())
        return 30.0

    with ThreadPoolExecutor(20) as threads:
        waiting = [threads.submit(resolver.addresses, "tts.test", 80, time_left, aborted=no) for _ in range(20)]
        eventually(lambda: len(waiters) == 20, "all wait")
        assert repr(resolver) == "<Resolver 1 lookups under way>"
        names.go_on.set()
        assert [future.result(30) for future in waiting] == [[HERE]] * 20
    assert len(names.asked) == 1
    resolver.addresses("tts.test", 80, countdown(30), aborted=no)
    assert len(names.asked) == 2, "a result is not kept"


def test_each_caller_gets_an_error_for_an_unknown_name(names: Names) -> None:
    """An error object of its own, with the system's number and words."""
    names.answer = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    names.go_on.set()
    for _ in range(2):
        with pytest.raises(socket.gaierror, match="not known") as caught:
            Resolver(SystemClock()).addresses("nobody.test", 80, countdown(30), aborted=no)
        assert caught.value.errno == socket.EAI_NONAME


def test_the_number_of_hanging_lookups_is_limited(names: Names) -> None:
    """A later caller starts a new lookup, in case only the first one was lost, up to a limit."""
    clock = FakeClock()
    resolver = Resolver(clock)
    for _ in range(20):
        with pytest.raises(TimeoutError, match=r"tts\.test"):
            resolver.addresses("tts.test", 80, countdown(0.001), aborted=no)
        clock.advance(2.0)
    assert names.hanging == 4
    names.go_on.set()
    eventually(lambda: repr(resolver) == "<Resolver 0 lookups under way>", "all are removed")


def test_an_abort_ends_the_wait_for_a_lookup(names: Names) -> None:
    """Closing a transport wakes the threads that still wait for an address."""
    looks = iter([False, False, True])
    with pytest.raises(Aborted):
        Resolver(SystemClock()).addresses("tts.test", 80, countdown(HANG), aborted=lambda: next(looks))


def test_a_caller_that_can_start_no_thread_looks_the_name_up_itself(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an exit handler, where the interpreter starts no threads any more."""

    def refuse(*_: Any) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    names.go_on.set()
    assert Resolver(SystemClock()).addresses("tts.test", 80, countdown(30), aborted=no) == [HERE]
    assert names.asked == [threading.get_ident()]


def test_no_caller_waits_for_a_lookup_that_was_interrupted(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the interrupt comes; the next caller starts a new lookup."""
    resolver, real = Resolver(SystemClock()), _thread.start_new_thread

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    def interrupt_after(*arguments: Any) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    names.go_on.set()
    for moment in [interrupt, interrupt_after] * 4:
        monkeypatch.setattr(_thread, "start_new_thread", moment)
        with pytest.raises(KeyboardInterrupt):
            resolver.addresses("tts.test", 80, countdown(30), aborted=no)
    monkeypatch.setattr(_thread, "start_new_thread", real)
    assert resolver.addresses("tts.test", 80, countdown(30), aborted=no) == [HERE]
    eventually(lambda: repr(resolver) == "<Resolver 0 lookups under way>", "all are removed")


@pytest.mark.parametrize("url", ["http://tts.test", "ws://tts.test"])
def test_a_call_ends_by_its_deadline(names: Names, url: str) -> None:
    """Though the lookup goes on; and the error names what took so long."""
    protocol = {"ws": "model-studio"}.get(url[:2])
    with CosyClient(url, protocol=protocol, voice="longanyang", model="cosyvoice-v3-flash") as client:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.synthesize("hello", timeout=0.3)
        with pytest.raises((DeadlineExceeded, ConnectFailed), match=r"tts\.test"):
            client.synthesize("hello", timeout=0.3)
    assert time.monotonic() - began < HANG / 2
    assert names.hanging


@pytest.mark.parametrize("url", ["http://tts.test", "ws://tts.test"])
def test_closing_does_not_wait_for_a_lookup(names: Names, url: str) -> None:
    """Nor do those who wait for the calls."""
    protocol = {"ws": "model-studio"}.get(url[:2])
    client = CosyClient(url, protocol=protocol, voice="longanyang", model="cosyvoice-v3-flash", timeout=HANG)
    future = client.submit("hello")
    eventually(lambda: names.hanging, "the name is looked up")
    began = time.monotonic()
    client.close(drain=False)
    with pytest.raises(ClientClosed):
        future.result(30)
    assert time.monotonic() - began < HANG / 2
    assert names.hanging


def test_a_script_ends_though_a_lookup_hangs() -> None:
    """The interpreter waits for no lookup."""
    code, output, errors = finish(start("hanging_lookup"))
    assert (code, output, errors) == (0, "DeadlineExceeded\nthe end\n", "")


def test_a_name_leads_to_the_service() -> None:
    """The real resolver, on its thread."""
    with hostile(answers()) as service:
        transport = made(service.url.replace("127.0.0.1", "localhost"))
        try:
            assert ask(transport) == (200, b"ok")
        finally:
            transport.close()

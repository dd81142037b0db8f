"""The public fakes: a clock, an executor and a transport that need no time, no thread and no socket."""

from __future__ import annotations

import threading

import pytest

from cosyclient.clock import Flag, closed_gate, open_gate
from cosyclient.events import AttemptFinished, LimitChanged
from cosyclient.testing import (
    FakeClock,
    InlineExecutor,
    RecordingListener,
    ScriptedReply,
    ScriptedTransport,
    scripted_client,
)
from cosyclient.wire import WireRequest
from tests.support.service import answer

REQUEST = WireRequest(method="GET", path="/", headers=(), body=b"")


def test_a_wait_on_the_fake_clock_returns_at_once_and_advances_it() -> None:
    clock, flag = FakeClock(), Flag()
    assert clock.wall() - clock.now() == pytest.approx(1_800_000_000.0 - 1000.0)
    assert not clock.sleep(2.5, flag)
    assert not clock.wait(closed_gate(), 1.5)
    clock.advance(1.0)
    assert clock.now() == 1005.0
    assert clock.slept == [2.5]
    flag.set()
    gate = closed_gate()
    open_gate(gate)
    assert clock.sleep(10.0, flag)
    assert clock.wait(gate, 10.0)
    assert (clock.now(), repr(clock)) == (1005.0, "<FakeClock 1005.000>")


def test_the_inline_executor_runs_a_nested_task_after_the_task_that_submits_it() -> None:
    executor, order = InlineExecutor(), list[str]()

    def outer() -> None:
        inner = executor.submit(order.append, "inner")
        assert not inner.done()
        order.append("outer")

    assert executor.submit(outer).done()
    assert order == ["outer", "inner"]
    assert isinstance(executor.submit(int, "x").exception(), ValueError)
    assert executor.submit(threading.current_thread).result() is threading.current_thread()


def test_a_scripted_reply_raises_an_exception_where_it_stands_among_its_pieces() -> None:
    reply = ScriptedReply(200, {"X-A": "1"}, [b"one", OSError("reset")])
    chunks = reply.chunks()
    assert (reply.headers, next(chunks)) == ({"x-a": "1"}, b"one")
    with pytest.raises(OSError, match="reset"):
        next(chunks)
    reply.close()
    assert reply.closed


def test_a_scripted_transport_answers_in_order_and_lists_what_was_sent() -> None:
    reply = ScriptedReply()
    transport = ScriptedTransport([reply, OSError("down")])
    assert transport.send(REQUEST) is reply
    with pytest.raises(OSError, match="down"):
        transport.send(REQUEST)
    assert transport.requests == [REQUEST, REQUEST]
    transport.close()
    assert transport.closed


def test_a_scripted_client_starts_no_thread() -> None:
    before = threading.active_count()
    listener = RecordingListener()
    client, transport = scripted_client(answer, listeners=[listener])
    with client:
        assert client.submit("hello").done()
        assert threading.active_count() == before
    assert len(transport.requests) == 1
    assert len(listener.of(AttemptFinished)) == 1
    assert listener.of(LimitChanged) == []
    assert transport.closed

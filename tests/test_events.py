"""Events: who receives them, at which level they are logged, and which errors of a listener are raised."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any, NoReturn

import pytest

from cosyclient.errors import ConfigurationError, ServiceFault
from cosyclient.events import (
    AttemptFinished,
    BreakerChanged,
    Event,
    Events,
    LimitChanged,
    ServiceDown,
    invoke_callback,
    raised_by_signal,
)

SECRET = ServiceFault("the text was quoted here")


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (BreakerChanged(endpoint="a", old="closed", new="open"), logging.WARNING),
        (ServiceDown(endpoint="a", error=SECRET), logging.WARNING),
        (LimitChanged(endpoint="a", old=1, new=4), logging.INFO),
        (
            AttemptFinished(endpoint="a", batch="b", number=1, texts=1, failed=0, latency=0.25, error=SECRET),
            logging.DEBUG,
        ),
    ],
)
def test_an_event_is_logged_at_its_level_without_the_message_of_its_error(
    event: Event, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A service's message may quote the text."""
    with caplog.at_level(logging.DEBUG, logger="cosyclient"):
        Events().emit(event)
    (record,) = caplog.records
    assert record.levelno == level
    assert record.getMessage().startswith(type(event).__name__)
    assert "quoted" not in record.getMessage()


def test_every_listener_receives_an_event_though_one_raises(caplog: pytest.LogCaptureFixture) -> None:
    received: list[Event] = []

    def broken(event: Event) -> NoReturn:
        raise RuntimeError("broken")

    event = LimitChanged(endpoint="a", old=1, new=4)
    Events([broken, received.append]).emit(event)
    assert received == [event]
    assert "broken" in caplog.text


@pytest.mark.parametrize("listeners", [5, [5], print, "ab"])
def test_listeners_that_cannot_be_called_are_an_error(listeners: Any) -> None:
    with pytest.raises(ConfigurationError, match="listeners: must be functions"):
        Events(listeners)


def test_events_of_every_text_are_made_only_where_something_receives_them(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="cosyclient"):
        assert not Events().wanted
        assert Events([print]).wanted
    with caplog.at_level(logging.DEBUG, logger="cosyclient"):
        assert Events().wanted


def _raises(error: BaseException) -> NoReturn:
    raise error


@pytest.mark.parametrize("error", [ValueError(), SystemExit(), GeneratorExit()])
def test_an_error_of_a_callback_is_logged(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    invoke_callback(_raises, error)
    assert "_raises" in caplog.text


def test_a_keyboard_interrupt_on_a_thread_of_the_user_is_raised() -> None:
    with pytest.raises(KeyboardInterrupt):
        invoke_callback(_raises, KeyboardInterrupt())


def test_a_keyboard_interrupt_on_a_thread_of_the_client_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing there would handle it."""
    thread = threading.Thread(
        target=invoke_callback, args=(_raises, KeyboardInterrupt()), name="cosyclient-worker", daemon=True
    )
    thread.start()
    thread.join(30)
    assert "_raises" in caplog.text


def test_an_error_of_a_signal_handler_is_raised_whatever_its_kind() -> None:
    """As the time limit of a task queue raises an ordinary exception."""

    class TimeLimitExceeded(Exception):
        pass

    def handler(*_: object) -> NoReturn:
        raise TimeLimitExceeded

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(TimeLimitExceeded) as caught:
            invoke_callback(lambda: signal.raise_signal(signal.SIGUSR1))
        wrapped = ValueError()
        wrapped.__cause__ = caught.value
        assert raised_by_signal(wrapped)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not raised_by_signal(ValueError())
    assert not raised_by_signal(None)

"""A key names one logical request: replayed when finished, refused when misused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cosyclient.emulator.apis.batch.replies import Reply
from cosyclient.emulator.core import idempotency
from cosyclient.emulator.core.idempotency import ReplyRecords, read_key
from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.speech.items import Audio
from tests.emulator.apis.batch.test_request import assert_problem
from tests.emulator.wire import FRAMES, open_socket, parse_frames, post, raw_request, read_all

if TYPE_CHECKING:
    from cosyclient.emulator import Emulator

BATCH = {"texts": ["一", "二"]}
KEY = '"8e03978e-40d5-43dd-bc93-6894a57f9324"'


def reply(*audios: Audio) -> Reply:
    """Return a reply with these items."""
    return Reply("id", "model", "wav", 24000, audios, [1] * len(audios), range(len(audios)))


def test_a_finished_reply_is_replayed(emulator: Emulator) -> None:
    """The second answer is the first, down to its id, in whatever shape."""
    first = post(emulator.url, BATCH, idempotency_key=KEY)
    second = post(emulator.url, BATCH, idempotency_key=KEY)
    assert second.body == first.body
    frames = parse_frames(post(emulator.url, BATCH, idempotency_key=KEY, accept=FRAMES).body)
    assert frames.head["id"] == first.json()["id"]
    assert emulator.counters().replays == 2
    assert post(emulator.url, BATCH).json()["id"] != first.json()["id"]


def test_another_body_is_a_mismatch(emulator: Emulator) -> None:
    """One key, one body."""
    assert post(emulator.url, BATCH, idempotency_key=KEY).status == 200
    assert_problem(post(emulator.url, {"texts": ["三"]}, idempotency_key=KEY), 422, "idempotency_mismatch")


def test_a_running_request_is_in_progress(start: Any) -> None:
    """While the first runs, the second is refused with a Retry-After."""
    emulator = start(item_delay=30.0)
    with open_socket(emulator.url) as first:
        first.sendall(raw_request(BATCH, accept=FRAMES, idempotency_key=KEY))
        assert first.recv(15) == b"HTTP/1.1 200 OK"
        answer = post(emulator.url, BATCH, idempotency_key=KEY)
    problem = assert_problem(answer, 409, "idempotency_in_progress")
    assert problem["retryable"] is True
    assert int(answer.headers["retry-after"]) >= 1


def test_a_paced_reply_is_replayed(start: Any) -> None:
    """A reply that was sent item by item is remembered, too."""
    emulator = start(item_delay=0.001)
    first, second = (post(emulator.url, BATCH, accept=FRAMES, idempotency_key=KEY) for _ in range(2))
    assert second.body == first.body
    assert emulator.counters().replays == 1


def test_a_lost_reply_is_replayed(emulator: Emulator) -> None:
    """A reply that was cut is sent whole to the retry."""
    emulator.inject("cut")
    with open_socket(emulator.url) as connection:
        connection.sendall(raw_request(BATCH, idempotency_key=KEY))
        read_all(connection)
    assert post(emulator.url, BATCH, idempotency_key=KEY).json()["succeeded"] == 2
    assert emulator.counters().replays == 1


@pytest.mark.parametrize("fault", ["wrong_count", "not_audio", "failed_items"])
def test_a_fault_of_the_delivery_leaves_a_good_record(emulator: Emulator, fault: str) -> None:
    """A fault of the items applies to one delivery, not to the kept reply."""
    emulator.inject(fault)
    faulty = post(emulator.url, BATCH, idempotency_key=KEY).json()
    good = post(emulator.url, BATCH, idempotency_key=KEY).json()
    assert good["succeeded"] == 2
    assert good["id"] == faulty["id"]


@pytest.mark.parametrize("fault", ["error", "throttle", "garbage"])
def test_a_refusal_leaves_the_key_free(emulator: Emulator, fault: str) -> None:
    """A refused request can be sent again."""
    emulator.inject(fault)
    post(emulator.url, BATCH, idempotency_key=KEY)
    assert post(emulator.url, BATCH, idempotency_key=KEY).status == 200
    assert emulator.counters().replays == 0


def test_a_bad_key_is_refused(emulator: Emulator) -> None:
    """An empty or too long key breaks a rule."""
    for key in ('""', "k" * 256):
        assert_problem(post(emulator.url, BATCH, idempotency_key=key), 422, "validation_failed")
    assert read_key('"abc"') == read_key("abc") == "abc"


def test_records_end_after_ten_minutes() -> None:
    """Later the key is free again."""
    records = ReplyRecords()
    record = records.begin("k", b"1", 0.0)
    records.finish(record, reply(Audio(b"12345", "audio/wav", 24000, 1)), 1.0)
    assert repr(records) == "<ReplyRecords kept=1 bytes=5>"
    assert records.begin("k", b"1", 600.9).reply is not None
    assert records.begin("k", b"2", 601.0).reply is None
    assert repr(records) == "<ReplyRecords kept=1 bytes=0>"


def test_records_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are dropped; audio that several share is counted once."""
    monkeypatch.setattr(idempotency, "_MOST_BYTES", 100)
    records = ReplyRecords()
    shared = Audio(b"x" * 60, "audio/wav", 24000, 1)
    for name in ("a", "b"):
        records.finish(records.begin(name, b"", 0.0), reply(shared, shared), 0.0)
    assert repr(records) == "<ReplyRecords kept=2 bytes=60>"
    records.finish(records.begin("c", b"", 0.0), reply(Audio(b"y" * 60, "audio/wav", 24000, 1)), 0.0)
    assert repr(records) == "<ReplyRecords kept=1 bytes=60>"
    assert records.begin("a", b"", 0.0).reply is None


def test_an_abandoned_key_is_free() -> None:
    """Only a finished reply stays."""
    records = ReplyRecords()
    record = records.begin("k", b"1", 0.0)
    with pytest.raises(Problem, match="running"):
        records.begin("k", b"1", 0.0)
    records.abandon(record)
    assert records.begin("k", b"2", 0.0).reply is None

"""The counters, as a record, as JSON and as Prometheus text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cosyclient.emulator import Counters
from tests.emulator.wire import FRAMES, call, post

if TYPE_CHECKING:
    from cosyclient.emulator import Emulator


def test_counters_count_what_happened(emulator: Emulator) -> None:
    """Requests, batches, texts, replies, sizes and bytes."""
    posted = [post(emulator.url, {"texts": ["好"] * size}, accept=FRAMES) for size in (1, 3, 3)]
    post(emulator.url, b"{")
    emulator.inject("reset")
    with pytest.raises(ConnectionError):
        post(emulator.url, {"texts": ["好"]})
    call(emulator.url, "GET", "/health")
    counters = emulator.counters()
    assert (counters.requests, counters.batches, counters.texts) == (5, 4, 8)
    assert counters.replies == {200: 3, 400: 1}
    assert counters.batch_sizes == {1: 2, 3: 2}
    assert counters.faults == {"reset": 1}
    assert (counters.in_flight, counters.in_flight_peak) == (0, 1)
    assert counters.audio_seconds > 2
    assert counters.bytes_out >= sum(len(answer.body) for answer in posted)
    assert counters.bytes_in > 0
    assert counters.items_failed == counters.replays == 0


def test_a_reset_starts_over(emulator: Emulator) -> None:
    """Everything but open connections is zero."""
    post(emulator.url, {"texts": ["好"]})
    emulator.reset()
    counters = emulator.counters()
    assert counters.requests == counters.texts == counters.bytes_in == counters.connections_seen == 0
    assert counters.replies == {}


def test_the_control_pages_work_over_plain_http(emulator: Emulator) -> None:
    """For programs that did not start the emulator."""
    post(emulator.url, {"texts": ["好", "好"]})
    shown = call(emulator.url, "GET", "/_emulator/counters").json()
    assert Counters.from_json(shown).texts == 2
    order = b'{"fault": "error", "params": {"status": 504}}'
    assert call(emulator.url, "POST", "/_emulator/faults", order).status == 200
    assert post(emulator.url, {"texts": ["好"]}).status == 504
    for wrong in (b"", b"[]", b'{"fault": "none"}', b'{"fault": "cut", "params": 3}', b'{"fault": []}'):
        assert call(emulator.url, "POST", "/_emulator/faults", wrong).status == 422
    assert call(emulator.url, "POST", "/_emulator/reset").status == 200
    assert call(emulator.url, "GET", "/_emulator/counters").json()["texts"] == 0


def test_metrics_are_prometheus_text(emulator: Emulator) -> None:
    """Counters, gauges, labels and a histogram of batch sizes."""
    for size in (1, 2, 3):
        post(emulator.url, {"texts": ["好"] * size})
    answer = call(emulator.url, "GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.body.decode().splitlines()
    assert "# TYPE cosyvoice_emulator_requests_total counter" in lines
    assert "cosyvoice_emulator_requests_total 3" in lines
    assert 'cosyvoice_emulator_replies_total{status="200"} 3' in lines
    assert "# TYPE cosyvoice_emulator_connections_open gauge" in lines
    assert 'cosyvoice_emulator_batch_texts_bucket{le="2"} 2' in lines
    assert 'cosyvoice_emulator_batch_texts_bucket{le="+Inf"} 3' in lines
    assert "cosyvoice_emulator_batch_texts_sum 6" in lines


def test_health_lists_models_and_voices(emulator: Emulator) -> None:
    """And the engine."""
    health = call(emulator.url, "GET", "/health").json()
    assert health["status"] == "ok"
    assert health["model"] in health["models"]
    assert "default" in health["voices"]

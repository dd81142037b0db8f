"""Flask and Django under a real gunicorn: each caller gets the speech of its own text, however processes forked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from cosyclient.emulator import echo_text
from tests.integration.gunicorn import Gunicorn
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from cosyclient.emulator import Emulator

WORKERS = 3
SYNC = ("--workers=3",)
THREADS = ("--workers=3", "--worker-class=gthread", "--threads=8")


@pytest.mark.parametrize(
    ("framework", "options", "count", "warm"),
    [
        pytest.param("flask", SYNC, 300, False, id="flask-sync"),
        pytest.param("flask", THREADS, 600, True, id="flask-gthread-used-before-fork"),
        pytest.param("django", SYNC, 300, True, id="django-sync-used-before-fork"),
        pytest.param("django", THREADS, 600, False, id="django-gthread"),
    ],
)
def test_no_body_reaches_the_wrong_caller(
    echo: Emulator, tmp_path: Path, framework: str, options: tuple[str, ...], count: int, warm: bool
) -> None:
    environment = {"COSYCLIENT_BASE_URL": echo.url, **({"WARM_IN_MASTER": "1"} if warm else {})}
    app = f"tests.integration.apps.{framework}_app:app"
    with Gunicorn(app, *options, log=tmp_path / "gunicorn.log", **environment) as server:
        texts = [f"{framework} 第 {number} 句, caller {number * 7919:x}" for number in range(count)]
        answers = server.ask_all(texts, callers=24)

        assert [answer for answer in answers if answer.status != 200] == [], server.log
        assert [answer.text for answer in answers if echo_text(answer.body) != answer.text] == []
        assert {answer.media_type for answer in answers} == {"audio/wav"}
        workers = {answer.worker for answer in answers}
        assert len(workers) == WORKERS
        assert server.pid not in workers
        assert {answer.warmed_in for answer in answers} == {str(server.pid) if warm else ""}

        refused = server.ask("   ")
        assert (refused.status, refused.body) == (400, b"text: must not be empty or blank")

        assert server.stop() == 0
        for complaint in ("Traceback", "Exception", "Warning"):
            assert complaint not in server.log
    counters = echo.counters()
    assert counters.texts == count + (32 if warm else 0)
    if options is THREADS:
        assert counters.requests < counters.texts, "concurrent views share requests"


@pytest.mark.parametrize("framework", ["flask", "django"])
def test_a_stopping_worker_process_finishes_its_requests(echo: Emulator, tmp_path: Path, framework: str) -> None:
    app = f"tests.integration.apps.{framework}_app:app"
    with Gunicorn(app, *THREADS, log=tmp_path / "gunicorn.log", COSYCLIENT_BASE_URL=echo.url) as server:
        echo.inject("hang", seconds=0.5, count=3)
        with ThreadPoolExecutor(3) as callers:
            asked = [callers.submit(server.ask, f"last words {number}") for number in range(3)]
            eventually(lambda: echo.counters().texts == 3, "the views are waiting for the service")
            assert server.stop() == 0
            answers = [each.result() for each in asked]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert all(echo_text(answer.body) == answer.text for answer in answers)

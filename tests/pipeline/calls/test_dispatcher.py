"""The workers and the queue: no queued text waits for a worker that has just ended."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cosyclient import CosyClient
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.pipeline.queue.pending import PendingText
from cosyclient.testing import ScriptedTransport
from tests.support.service import answer

if TYPE_CHECKING:
    from concurrent.futures import Future

    import pytest

    from cosyclient import Speech


def test_a_text_queued_while_a_worker_ends_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that found nothing still counts as seeking, so a text queued then starts no other worker."""
    transport = ScriptedTransport(answer)
    with CosyClient("http://scripted.test", transport=transport) as client:
        pipeline = client._shared.pipeline()
        batcher, dispatcher = pipeline._batcher, pipeline._dispatcher
        late: list[Future[Speech]] = []
        release = batcher.release_worker

        def submit_then_release() -> None:
            if not late:
                other = threading.Thread(target=lambda: late.append(client.submit("late")))
                other.start()
                other.join()
            release()

        monkeypatch.setattr(batcher, "release_worker", submit_then_release)
        gone = PendingText(Utterance("gone", VoiceSettings()), 10)
        batcher.enqueue([gone])
        assert batcher.claim_workers() == 1
        batcher.discard(gone)
        dispatcher._workers.submit(dispatcher._work)
        while not late:
            pass
        assert late[0].result(10.0).audio

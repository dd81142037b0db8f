"""The workers and the queue: nothing that was queued waits for somebody who has just left."""

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


def test_a_text_queued_as_a_worker_leaves_is_not_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker that found nothing still counts as one that seeks, so whoever comes then calls no other."""
    transport = ScriptedTransport(answer)
    with CosyClient("http://scripted.test", transport=transport) as client:
        pipeline = client._shared.pipeline()
        batcher, dispatcher = pipeline._batcher, pipeline._dispatcher
        late: list[Future[Speech]] = []
        dismiss = batcher.release_worker

        def leave() -> None:
            if not late:
                other = threading.Thread(target=lambda: late.append(client.submit("late")))
                other.start()
                other.join()
            dismiss()

        monkeypatch.setattr(batcher, "release_worker", leave)
        gone = PendingText(Utterance("gone", VoiceSettings()), 10)
        batcher.enqueue([gone])
        assert batcher.claim_workers() == 1
        batcher.discard(gone)
        dispatcher._workers.submit(dispatcher._work)
        while not late:
            pass
        assert late[0].result(10.0).audio

"""What all calls of a client share."""

from __future__ import annotations

import random
import re
from dataclasses import replace

from cosyclient.testing import FakeClock, ScriptedReply, scripted_client


def test_no_key_is_used_twice() -> None:
    """By one client, or by processes that go on from one memory image: a service replays a reply for its key."""
    client, _ = scripted_client(lambda _: ScriptedReply())
    with client:
        context = client._shared.pipeline()._context
        keys = [context.new_key() for _ in range(1000)]
        assert len(set(keys)) == 1000
        assert all(re.fullmatch("[0-9a-f]{32}", key) for key in keys)
        one, other = (
            replace(context, random=random.Random(7), clock=FakeClock(wall=instant)) for instant in (1e9, 1e9 + 1e-3)
        )
        assert one.new_key() != other.new_key()

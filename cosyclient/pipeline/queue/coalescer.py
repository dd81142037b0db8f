"""Equal texts that are pending at the same time are sent once; each waiter keeps its own deadline."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeAlias

from cosyclient.models import Speech

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cosyclient.errors import CosyError
    from cosyclient.models import Utterance
    from cosyclient.pipeline.queue.pending import Holder, PendingText, Waiter

Completion: TypeAlias = "tuple[PendingText, Speech | CosyError]"
"""A pending text and what became of it."""


class Coalescer:
    """Keep the pending texts, and let waiters join the one that holds an equal utterance.

    A pending text belongs to all its waiters alike: the first may give up and the others keep it, so there is no leader
    to replace. It is done when it is completed or when its last waiter abandons it.
    """

    def __init__(self, *, single_flight: bool = True) -> None:
        self._single_flight = single_flight
        self._lock = threading.Lock()
        # All guarded by _lock, with the waiters, deadline, calls and done of every pending text.
        self._by_key: dict[tuple[str, str], PendingText] = {}
        self._pending: set[PendingText] = set()
        # Counted here because the lock is held anyway: one lock less for every text.
        self.accepted = 0
        """Waiters whose text was accepted."""
        self.succeeded = 0
        """Texts that were done with a speech."""
        self.failed = 0
        """Texts that were done without one."""

    def join(self, utterance: Utterance, waiter: Waiter) -> PendingText | None:
        """Let *waiter* share the pending text of *utterance*; return that, or None if there is none."""
        # Looked up without the lock first: a miss is the rule, and `start` looks again.
        if not self._single_flight or (key := utterance.key) not in self._by_key:
            return None
        with self._lock:
            text = self._by_key.get(key)
            if text is not None:
                self._join_locked(text, waiter)
            return text

    def start(self, text: PendingText, waiter: Waiter) -> PendingText:
        """Start *text* for *waiter*; return it, or the equal one that started meanwhile and was joined instead."""
        # Set before anything is done for it, so that `abandon` finds what to undo.
        waiter.pending_text = text
        with self._lock:
            return self._start_locked(text, waiter)

    def start_all(self, fresh: Iterable[tuple[PendingText, Waiter]]) -> None:
        """Start each text for its waiter, which must refer to it; a text without waiters afterwards was not started."""
        with self._lock:
            for text, waiter in fresh:
                self._start_locked(text, waiter)

    def abandon(self, waiter: Waiter) -> tuple[bool, PendingText | None]:
        """Take *waiter* off its text, also if it was interrupted while it joined.

        Return whether the waiter is unresolved, so that nobody else will resolve it, and the text if that is done
        because it has no waiter left: once more on each further call.
        """
        with self._lock:
            text = waiter.pending_text
            if text is None or (text.done and text.waiters):
                return False, None
            joined = waiter in text.waiters
            if joined:
                text.waiters.remove(waiter)
            if text.waiters:
                text.deadline = max(other.deadline.at for other in text.waiters)
                return True, None
            if not text.done:
                self._complete_locked(text)
                self.failed += joined
            return True, text

    def attach(self, texts: Iterable[PendingText], call: Holder) -> None:
        """Record that *call* carries *texts* from now on."""
        with self._lock:
            for text in texts:
                text.calls = (*text.calls, call)

    def detach(self, texts: Iterable[PendingText], call: Holder) -> None:
        """Record that *call* carries *texts* no longer."""
        with self._lock:
            for text in texts:
                # A future that its owner keeps may keep the text longer than the call.
                text.calls = () if text.calls == (call,) else tuple(other for other in text.calls if other is not call)

    def complete(
        self, results: Iterable[Completion], ended: list[Completion], call: Holder | None = None, *, final: bool = False
    ) -> None:
        """Mark the texts of *results* as done; add those that were not to *ended*: the caller resolves their waiters.

        Several at once, because those of one reply come together and all callers share the lock. An error of *call*, or
        of no call, does not end a text that another call carries as well, unless it is *final*. If this is interrupted,
        the same call once more completes it.
        """
        with self._lock:
            for completion in results:
                text, result = completion
                if text.done:
                    continue
                spoken = isinstance(result, Speech)
                if text.hedged and not (spoken or final) and any(other is not call for other in text.calls):
                    continue
                ended += [completion]
                self._complete_locked(text)
                self.succeeded += spoken
                self.failed += not spoken

    def pending(self) -> list[PendingText]:
        """Return the pending texts."""
        # Without the lock: in a forked child its owner may not exist, and copying a set is one step anyway.
        return list(self._pending)

    def pending_check(self) -> Callable[[], bool]:
        """Return a function that tells whether any of the texts that are pending now still is."""
        texts = self.pending()
        return lambda: not all(text.done for text in texts)

    def _start_locked(self, text: PendingText, waiter: Waiter) -> PendingText:
        if self._single_flight:
            existing = self._by_key.setdefault(text.key, text)
            if existing is not text:
                self._join_locked(existing, waiter)
                return existing
        self._pending.add(text)
        self._join_locked(text, waiter)
        return text

    def _join_locked(self, text: PendingText, waiter: Waiter) -> None:
        until = max(text.deadline, waiter.deadline.at)
        waiter.pending_text = text
        text.waiters += [waiter]
        text.deadline = until
        self.accepted += 1

    def _complete_locked(self, text: PendingText) -> None:
        if self._by_key.get(text.key) is text:
            del self._by_key[text.key]
        self._pending -= {text}
        text.done = True

    def __repr__(self) -> str:
        return f"<Coalescer {len(self._pending)} pending>"

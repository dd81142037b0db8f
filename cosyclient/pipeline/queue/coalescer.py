"""One text per utterance: equal texts under way travel once, and each caller keeps its own deadline."""

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
"""A text and what became of its text."""


class Coalescer:
    """Keep the texts under way and let callers join the one that already carries their utterance.

    A text belongs to all its waiters alike: the one who came first may give up and the others keep it, so nobody
    has to be promoted. It ends when the last waiter leaves or when it lands.
    """

    def __init__(self, *, single_flight: bool = True) -> None:
        self._single_flight = single_flight
        self._lock = threading.Lock()
        # All guarded by _lock, with every text's waiters, until and landed.
        self._by_key: dict[tuple[str, str], PendingText] = {}
        self._pending: set[PendingText] = set()
        # Counted here because the lock is held anyway: one lock less for every text.
        self.accepted = 0
        """Waiters taken aboard."""
        self.succeeded = 0
        """Texts that ended with a speech."""
        self.failed = 0
        """Texts that ended without."""

    def join(self, utterance: Utterance, waiter: Waiter) -> PendingText | None:
        """Let *waiter* share a text of *utterance* if there is one, and return that."""
        # Looked up without the lock first: a miss is the rule, and `lead` looks again.
        if not self._single_flight or (key := utterance.key) not in self._by_key:
            return None
        with self._lock:
            text = self._by_key.get(key)
            if text is not None:
                self._join_locked(text, waiter)
            return text

    def start(self, text: PendingText, waiter: Waiter) -> PendingText:
        """Start *text* for *waiter* and return it, or the equal one that has started meanwhile and was joined."""
        # Before anything is done for it, so that `leave` finds what is to be undone.
        waiter.pending_text = text
        with self._lock:
            if self._single_flight:
                existing = self._by_key.setdefault(text.key, text)
                if existing is not text:
                    self._join_locked(existing, waiter)
                    return existing
            self._pending.add(text)
            self._join_locked(text, waiter)
            return text

    def abandon(self, waiter: Waiter) -> tuple[bool, PendingText | None]:
        """Take *waiter* off its text, also if it was interrupted on its way aboard.

        Return whether nobody else will resolve it any more, and the text if that has ended because nobody is left who
        wants it: once more on each further call.
        """
        with self._lock:
            text = waiter.pending_text
            if text is None or (text.done and text.waiters):
                return False, None
            aboard = waiter in text.waiters
            if aboard:
                text.waiters.remove(waiter)
            if text.waiters:
                text.deadline = max(other.deadline.at for other in text.waiters)
                return True, None
            if not text.done:
                self._complete_locked(text)
                self.failed += aboard
            return True, text

    def attach(self, texts: Iterable[PendingText], call: Holder) -> None:
        """Note that *call* carries *texts* from now on."""
        with self._lock:
            for text in texts:
                text.calls = (*text.calls, call)

    def detach(self, texts: Iterable[PendingText], call: Holder) -> None:
        """Note that *call* carries *texts* no longer."""
        with self._lock:
            for text in texts:
                # The text may outlive the call, in a future that its owner keeps.
                text.calls = tuple(other for other in text.calls if other is not call)

    def complete(
        self, results: Iterable[Completion], ended: list[Completion], call: Holder | None = None, *, final: bool = False
    ) -> None:
        """End the texts of *results*, noting in *ended* those that had not before: their waiters are to be resolved.

        Several at once, because those of one reply arrive together and the lock is every caller's. An error that
        *call* brings, or somebody who carries nothing, does not end a text that another call carries as well,
        unless it is *final*. What an interrupt leaves half done is done by the same call once more.
        """
        with self._lock:
            for landing in results:
                text, result = landing
                if text.done:
                    continue
                spoken = isinstance(result, Speech)
                if text.hedged and not (spoken or final) and any(other is not call for other in text.calls):
                    continue
                ended += [landing]
                self._complete_locked(text)
                self.succeeded += spoken
                self.failed += not spoken

    def pending(self) -> list[PendingText]:
        """Return the texts under way."""
        # Without the lock: in a forked child its owner may not exist, and copying a set is one step anyway.
        return list(self._pending)

    def pending_check(self) -> Callable[[], bool]:
        """Return a function that says whether any of the texts that are under way now still is."""
        texts = self.pending()
        return lambda: not all(text.done for text in texts)

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
        return f"<Coalescer {len(self._pending)} aloft>"

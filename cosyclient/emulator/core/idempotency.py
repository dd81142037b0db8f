"""Remember replies by idempotency key, so that a retry is answered without rendering again."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cosyclient.emulator.core.problems import Problem

if TYPE_CHECKING:
    from cosyclient.emulator.apis.batch.replies import Reply

_LIFETIME = 600.0
_MOST_RECORDS = 4096
_MOST_BYTES = 256 << 20
_LONGEST_KEY = 255


@dataclass(slots=True)
class Record:
    """One key: the digest of its body, and the reply once it is finished."""

    key: str
    digest: bytes
    since: float
    reply: Reply | None = None


class ReplyRecords:
    """Keep finished replies for ten minutes, dropping the oldest when there are too many.

    Replies of the tone engine share their audio, so memory is counted by distinct pieces of audio.
    """

    def __init__(self) -> None:
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._holders: Counter[int] = Counter()
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<ReplyRecords kept={len(self._records)} bytes={self._bytes}>"

    def begin(self, key: str, digest: bytes, now: float) -> Record:
        """Return the record of this key, new or finished; raise the Problem when it may not be used now."""
        self._expire(now)
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = Record(key, digest, now)
            return record
        if record.digest != digest:
            raise Problem("idempotency_mismatch", "this Idempotency-Key came with another body before")
        if record.reply is None:
            raise Problem(
                "idempotency_in_progress", "the first request with this Idempotency-Key is running", retry_after=1.0
            )
        return record

    def finish(self, record: Record, reply: Reply, now: float) -> None:
        """Keep the reply for retries."""
        if self._records.get(record.key) is not record:
            return  # dropped while the request ran
        record.reply, record.since = reply, now
        self._records.move_to_end(record.key)
        for audio in reply.audios():
            if not self._holders[id(audio)]:
                self._bytes += len(audio.data)
            self._holders[id(audio)] += 1
        self._expire(now)

    def abandon(self, record: Record) -> None:
        """Drop a key whose request has no reply, so that a retry runs again."""
        if record.reply is None and self._records.get(record.key) is record:
            del self._records[record.key]

    def clear(self) -> None:
        """Drop every key."""
        self._records.clear()
        self._holders.clear()
        self._bytes = 0

    def _expire(self, now: float) -> None:
        while self._records:
            record = next(iter(self._records.values()))
            crowded = len(self._records) > _MOST_RECORDS or self._bytes > _MOST_BYTES
            stale = record.reply is not None and now - record.since >= _LIFETIME
            if not (crowded or stale):
                return
            del self._records[record.key]
            self._release(record)

    def _release(self, record: Record) -> None:
        for audio in record.reply.audios() if record.reply else ():
            self._holders[id(audio)] -= 1
            if not self._holders[id(audio)]:
                del self._holders[id(audio)]
                self._bytes -= len(audio.data)


def read_key(header: str) -> str:
    """Return the key of an ``Idempotency-Key`` header, quoted as the draft asks or bare as many send it."""
    key = header.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not key or len(key) > _LONGEST_KEY:
        raise Problem("validation_failed", f"Idempotency-Key must be a string of 1 to {_LONGEST_KEY} characters")
    return key

"""Read a JSON reply to a batch while it arrives: result by result, with base64 audio decoded in place.

The body is an object (RFC 8259) with a list ``results``, or that list alone. This module only finds where values begin
and end, by jumping from quote to quote; `json` parses them. The one long string of a result, its audio, is decoded
straight from the buffer, so that neither the reply, nor its text, nor its values are ever in memory as a whole. Only
a reply whose first chunk is all of it is parsed at once, by `json_whole`.

Bounds: 200 levels, `strict.MAX_VALUES` values a result, 1000 members beside the results, 1 KiB a number.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from cosyclient.errors import DecodeError
from cosyclient.protocols.codecs.json_whole import (
    AUDIO,
    BLANKS,
    BYTE_ORDER_MARK,
    MAX_DEPTH,
    MAX_MEMBERS,
    MIN_LONG_BYTES,
    PLACEHOLDER,
    WholeReply,
    audio_name,
    parse_whole,
    placeholder_decoder,
)
from cosyclient.protocols.codecs.strict import MAX_VALUES, exceeds_value_limit, parse_base64, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What is skipped in one match: names, short strings, numbers and the punctuation between them.
_SKIPPABLE: Final = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]{0,200}+")*+')
_SKIPPED_BLANKS: Final = re.compile(rb"[ \t\n\r]*")
_SCALAR_END: Final = re.compile(rb"[ \t\n\r,\]}]")
_QUOTE, _BACKSLASH, _COMMA, _COLON = b'"\\,:'
_LIST, _LIST_END, _OBJECT, _OBJECT_END = b"[]{}"
_MAX_SCALAR_BYTES: Final = 1024
_LOOK_BACK_BYTES: Final = 64


class ResultReader:
    """Reads one JSON reply from the *chunks* of its body; not thread-safe.

    Iterate `results`. Meanwhile ``members`` fills with the members beside the results, and ``is_bare_list`` tells
    whether the body is a list alone. Of a body without results, the audio among the members may be bytes as well. More
    than *max_results* results at once are yielded before the next is read, so that the caller can stop at the first
    excess one of a million.
    """

    def __init__(self, chunks: Iterable[bytes], *, max_results: int) -> None:
        self.members: dict[str, Any] = {}
        self.is_bare_list = False
        self.has_results = False
        """Whether the body held a list of results."""
        self._chunks = iter(chunks)
        self._most = max_results
        self._read_bytes = 0
        self._count = 0
        # The unread part of the body is buffer[_start:_end], scanned up to _position. The buffer never shrinks: new
        # memory costs more than moving the rest to its front.
        self._buffer = bytearray()
        self._start = self._position = self._end = 0
        # Of the value being scanned, in bytes from _start: depth, containers opened, the open string, the long string.
        self._depth = self._container_count = 0
        self._string_start: int | None = None
        self._long_string: tuple[int, int] | None = None

    def results(self) -> Iterator[list[Any]]:
        """Yield the results parsed, those that arrive together in one list; their audio is bytes already.

        Raises `DecodeError` (retryable) where the body is malformed or breaks off; what was yielded before is valid.
        """
        if (whole := self._parse_first_chunk()) is None:
            yield from self._read_body()
            return
        self.has_results, self.is_bare_list = whole.has_results, whole.is_bare_list
        self.members.update(whole.before)
        if whole.results:
            yield whole.results
        self.members.update(whole.after)
        for chunk in self._chunks:
            self._read_bytes += len(chunk)
            if chunk.strip(BLANKS):
                raise self._malformed()

    def _parse_first_chunk(self) -> WholeReply | None:
        """Return the reply if the first chunk is all of it; otherwise leave that chunk to be read again."""
        first = next(self._chunks, b"")
        whole = parse_whole(first)
        if whole is None:
            self._chunks = chain((first,), self._chunks)
        else:
            self._read_bytes, self._count = len(first), len(whole.results)
        return whole

    def _read_body(self) -> Iterator[list[Any]]:
        while self._end < len(BYTE_ORDER_MARK) and self._read_chunk():
            pass
        if not self._end:
            raise DecodeError("reply: empty", retryable=True)
        if self._buffer.startswith(BYTE_ORDER_MARK):
            self._start = self._position = len(BYTE_ORDER_MARK)
        first = self._expect_byte()
        if first == _LIST:
            self.is_bare_list = self.has_results = True
            yield from self._read_list()
        elif first == _OBJECT:
            yield from self._read_object()
        else:
            raise self._malformed()
        if self._next_byte() is not None:
            raise self._malformed()

    def _read_object(self) -> Iterator[list[Any]]:
        self._advance()
        if self._expect_byte() == _OBJECT_END:
            self._advance()
            return
        while True:
            if self._expect_byte() != _QUOTE:
                raise self._malformed()
            name = self._read_value()
            if self._expect_byte() != _COLON:
                raise self._malformed()
            self._advance()
            if name == "results" and self._expect_byte() == _LIST:
                self.has_results = True
                yield from self._read_list()
            else:
                if len(self.members) == MAX_MEMBERS:
                    raise self._malformed()
                self.members[name] = self._read_value()
            if self._ends_container(_OBJECT_END):
                return

    def _read_list(self) -> Iterator[list[Any]]:
        self._advance()
        if self._expect_byte() == _LIST_END:
            self._advance()
            return
        ready: list[Any] = []
        ended = False
        while not ended:
            try:
                # Results that are complete do not wait for the bytes of the next.
                while not self._scan_value():
                    if ready:
                        yield ready
                        ready = []
                    self._read_more()
                ready.append(self._take_value(audio=True))
                self._count += 1
                if self._skip_blanks() or len(ready) > self._most:
                    yield ready
                    ready = []
                ended = self._ends_container(_LIST_END)
            except DecodeError:
                if ready:
                    yield ready
                raise
        if ready:
            yield ready

    def _ends_container(self, end: int) -> bool:
        """Advance over the comma or the *end* bracket behind a value; return whether it was the bracket."""
        byte = self._expect_byte()
        if byte not in (_COMMA, end):
            raise self._malformed()
        self._advance()
        return byte == end

    # The buffer

    def _read_chunk(self) -> bool:
        """Append the next chunk to the buffer; return whether there was one."""
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        buffer, left = self._buffer, self._end - self._start
        if self._start:
            buffer[:left] = buffer[self._start : self._end]
        end = left + len(chunk)
        buffer[left : end if end < len(buffer) else None] = chunk
        self._start, self._position, self._end = 0, self._position - self._start, end
        self._read_bytes += len(chunk)
        return True

    def _read_more(self) -> None:
        if not self._read_chunk():
            raise self._malformed()

    def _skip_blanks(self) -> bool:
        """Skip blanks; return whether the buffer holds nothing else."""
        match = _SKIPPED_BLANKS.match(self._buffer, self._position, self._end)
        assert match is not None  # noqa: S101 - the pattern matches the empty string
        self._start = self._position = match.end()
        return self._position == self._end

    def _next_byte(self) -> int | None:
        while self._skip_blanks():
            if not self._read_chunk():
                return None
        return self._buffer[self._position]

    def _expect_byte(self) -> int:
        byte = self._next_byte()
        if byte is None:
            raise self._malformed()
        return byte

    def _advance(self) -> None:
        self._position += 1
        self._start = self._position

    # Values

    def _read_value(self) -> Any:
        while not self._scan_value():
            self._read_more()
        return self._take_value()

    def _scan_value(self) -> bool:
        """Scan on to the end of the current value; return whether the buffer holds it."""
        buffer = self._buffer
        if not self._depth and self._string_start is None:
            if self._skip_blanks():
                return False
            if buffer[self._start] not in (_QUOTE, _LIST, _OBJECT):
                return self._scan_scalar()
            self._enter(self._start)
        while self._depth or self._string_start is not None:
            if self._string_start is None:
                match = _SKIPPABLE.match(buffer, self._position, self._end)
                assert match is not None  # noqa: S101 - the pattern matches the empty string
                self._position = match.end()
                if self._position == self._end:
                    return False
                self._enter(self._position)
            else:
                end = buffer.find(b'"', self._position, self._end)
                if end < 0:
                    self._position = self._end
                    return False
                self._position = end + 1
                if buffer[end - 1] != _BACKSLASH or not self._is_escaped(end):
                    if self._long_string is None and end - self._start - self._string_start > MIN_LONG_BYTES:
                        self._long_string = (self._string_start, end - self._start)
                    self._string_start = None
        return True

    def _enter(self, at: int) -> None:
        """Advance over the quote or bracket at *at* and keep count of strings and depth."""
        self._position = at + 1
        byte = self._buffer[at]
        if byte == _QUOTE:
            self._string_start = self._position - self._start
        else:
            if byte in (_LIST, _OBJECT):
                self._depth += 1
                self._container_count += 1
            else:
                self._depth -= 1
            # `parse_json` would reject it in the end: do not buffer it first.
            if self._depth > MAX_DEPTH or self._container_count > MAX_VALUES:
                raise self._malformed()

    def _scan_scalar(self) -> bool:
        match = _SCALAR_END.search(self._buffer, self._start, self._end)
        if match is None:
            if self._end - self._start > _MAX_SCALAR_BYTES:
                raise self._malformed()
            return False
        self._position = match.start()
        return True

    def _is_escaped(self, end: int) -> bool:
        """Return whether an odd number of backslashes precedes *end*, a quote inside a string."""
        size = _LOOK_BACK_BYTES
        while True:
            tail = self._buffer[max(0, end - size) : end]
            run = len(tail) - len(tail.rstrip(b"\\"))
            if run < len(tail):
                return bool(run % 2)
            size *= 16

    def _take_value(self, *, audio: bool = False) -> Any:
        """Return the value scanned, buffer[_start:_position], and continue behind it."""
        start, end, long = self._start, self._position, self._long_string
        self._start, self._depth, self._container_count, self._long_string = end, 0, 0, None
        try:
            if audio and long is not None:
                value = self._take_with_audio(start, start + long[0], start + long[1], end)
                if value is not None:
                    return value
            return parse_json(self._buffer[start:end].decode())
        except UnicodeDecodeError:
            raise DecodeError(f"reply: JSON that is not UTF-8 ({self._read_bytes} bytes)", retryable=True) from None
        except ValueError:
            raise self._malformed() from None

    def _take_with_audio(self, start: int, opening: int, closing: int, end: int) -> Any:
        """Return the value with its long string decoded to bytes, or ``None`` where that string is not the audio."""
        rest = self._buffer[start : opening - 1] + PLACEHOLDER + self._buffer[closing + 1 : end]
        if rest.count(PLACEHOLDER) > 1 or exceeds_value_limit(rest):
            return None
        try:
            value, size = placeholder_decoder.raw_decode(text := rest.decode())
            if size != len(text):
                return None
            # `json` itself says which member the string is: neither an escaped name nor a duplicate one misleads.
            name = audio_name(value) if isinstance(value, dict) else None
            if name is not None or value is AUDIO:
                with memoryview(self._buffer) as view, view[opening:closing] as coded:
                    audio = parse_base64(coded)
                if name is None:
                    return audio
                value[name] = audio
                return value
        except (ValueError, RecursionError):
            pass
        return None

    def _malformed(self) -> DecodeError:
        return DecodeError(f"reply: {self._read_bytes} bytes that are no JSON reply, or cut off", retryable=True)

    def __repr__(self) -> str:
        return f"<ResultReader {self._count} results, {self._read_bytes} bytes>"

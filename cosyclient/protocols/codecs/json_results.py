"""The incremental reader of JSON replies: results one by one while they arrive, their base64 undone in place.

Only where a value begins and ends is found here, which takes a jump from quote to quote; what it holds is for `json` to
say. The one long string of a result, its audio, becomes bytes straight from the buffer: the reply, its text and its
values are never held as wholes.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from cosyclient.errors import DecodeError
from cosyclient.protocols.codecs.strict import MAX_VALUES, exceeds_value_limit, parse_base64, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What may be passed over in one go: names, short strings, numbers and the signs between them.
_PLAIN: Final = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]{0,200}+")*+')
_BLANKS: Final = re.compile(rb"[ \t\n\r]*")
_SCALAR_END: Final = re.compile(rb"[ \t\n\r,\]}]")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_QUOTE, _BACKSLASH, _COMMA, _COLON = b'"\\,:'
_LIST, _LIST_END, _OBJECT, _OBJECT_END = b"[]{}"
_MAX_DEPTH: Final = 200
_MAX_MEMBERS: Final = 1000
_MAX_SCALAR_BYTES: Final = 1024
# Shorter ones are not worth the detour.
_LONG_BYTES: Final = 1024
_FEW_BYTES: Final = 64

# A long string is taken out and this put in its place: no JSON, but Python's reader knows it and asks what it means.
_MARK: Final = b"-Infinity"
_audio: Final = object()
_marked: Final = json.JSONDecoder(parse_constant=lambda name: _audio if name == _MARK.decode() else float(name))


class ResultReader:
    """Read one JSON reply from the *chunks* of its body; not thread-safe: one reply, one reader.

    `results` reads it. ``members`` holds what has come of the object beside its results, and ``bare`` says whether
    the reply is a list of results and nothing else. More than *most* results at once are handed on before the next is
    looked for, so that a million where a few were asked for end at the first too many.
    """

    def __init__(self, chunks: Iterable[bytes], *, max_results: int) -> None:
        self.members: dict[str, Any] = {}
        self.is_bare_list = False
        self.has_results = False
        """Whether there was a list of results at all."""
        self._chunks = iter(chunks)
        self._most = max_results
        self._read_bytes = 0
        self._count = 0
        # What is needed of the body lies from _start to _end and has been looked at up to _at. The buffer stays as
        # large as it once was needed: new memory costs more than moving what is left to its front.
        self._buffer = bytearray()
        self._start = self._at = self._end = 0
        # Within the value at hand, in bytes from _start: how deep, where the open string and where the long one lies.
        self._depth = self._opened = 0
        self._string: int | None = None
        self._long: tuple[int, int] | None = None

    def results(self) -> Iterator[list[Any]]:
        """Yield the results as `json` has them, together what arrives together; audio in them is bytes already.

        Raises `DecodeError` (retryable) where the body is no JSON or breaks off; what was yielded before stands.
        """
        while self._end < len(_BYTE_ORDER_MARK) and self._fill():
            pass
        if not self._end:
            raise DecodeError("reply: empty", retryable=True)
        if self._buffer.startswith(_BYTE_ORDER_MARK):
            self._start = self._at = len(_BYTE_ORDER_MARK)
        first = self._peek()
        if first == _LIST:
            self.is_bare_list = self.has_results = True
            yield from self._list()
        elif first == _OBJECT:
            yield from self._object()
        else:
            raise self._no_json()
        if self._next() is not None:
            raise self._no_json()

    def _object(self) -> Iterator[list[Any]]:
        self._step()
        if self._peek() == _OBJECT_END:
            self._step()
            return
        while True:
            if self._peek() != _QUOTE:
                raise self._no_json()
            name = self._value()
            if self._peek() != _COLON:
                raise self._no_json()
            self._step()
            if name == "results" and self._peek() == _LIST:
                self.has_results = True
                yield from self._list()
            else:
                if len(self.members) == _MAX_MEMBERS:
                    raise self._no_json()
                self.members[name] = self._value()
            if self._closes(_OBJECT_END):
                return

    def _list(self) -> Iterator[list[Any]]:
        self._step()
        if self._peek() == _LIST_END:
            self._step()
            return
        ready: list[Any] = []
        ended = False
        while not ended:
            try:
                # Nobody who is ready waits for bytes that others need.
                while not self._whole():
                    if ready:
                        yield ready
                        ready = []
                    self._more()
                ready.append(self._take(audio=True))
                self._count += 1
                if self._blank() or len(ready) > self._most:
                    yield ready
                    ready = []
                ended = self._closes(_LIST_END)
            except DecodeError:
                if ready:
                    yield ready
                raise
        if ready:
            yield ready

    def _closes(self, end: int) -> bool:
        """Step over the comma or the *end* that follows a value; return whether it was the end."""
        byte = self._peek()
        if byte not in (_COMMA, end):
            raise self._no_json()
        self._step()
        return byte == end

    # Bytes

    def _fill(self) -> bool:
        """Add the next chunk to what is needed, and return whether there was one."""
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        buffer, left = self._buffer, self._end - self._start
        if self._start:
            buffer[:left] = buffer[self._start : self._end]
        end = left + len(chunk)
        buffer[left : end if end < len(buffer) else None] = chunk
        self._start, self._at, self._end = 0, self._at - self._start, end
        self._read_bytes += len(chunk)
        return True

    def _more(self) -> None:
        if not self._fill():
            raise self._no_json()

    def _blank(self) -> bool:
        """Pass over blanks; return whether nothing else is there at the moment."""
        match = _BLANKS.match(self._buffer, self._at, self._end)
        assert match is not None  # noqa: S101 - it matches nothing as well
        self._start = self._at = match.end()
        return self._at == self._end

    def _next(self) -> int | None:
        while self._blank():
            if not self._fill():
                return None
        return self._buffer[self._at]

    def _peek(self) -> int:
        byte = self._next()
        if byte is None:
            raise self._no_json()
        return byte

    def _step(self) -> None:
        self._at += 1
        self._start = self._at

    # Values

    def _value(self) -> Any:
        while not self._whole():
            self._more()
        return self._take()

    def _whole(self) -> bool:
        """Go on to the end of the value at hand, and return whether it is there."""
        buffer = self._buffer
        if not self._depth and self._string is None:
            if self._blank():
                return False
            if buffer[self._start] not in (_QUOTE, _LIST, _OBJECT):
                return self._whole_scalar()
            self._open(self._start)
        while self._depth or self._string is not None:
            if self._string is None:
                match = _PLAIN.match(buffer, self._at, self._end)
                assert match is not None  # noqa: S101 - it matches nothing as well
                self._at = match.end()
                if self._at == self._end:
                    return False
                self._open(self._at)
            else:
                end = buffer.find(b'"', self._at, self._end)
                if end < 0:
                    self._at = self._end
                    return False
                self._at = end + 1
                if buffer[end - 1] != _BACKSLASH or not self._escaped(end):
                    if self._long is None and end - self._start - self._string > _LONG_BYTES:
                        self._long = (self._string, end - self._start)
                    self._string = None
        return True

    def _open(self, at: int) -> None:
        """Step over the quote or bracket at *at*."""
        self._at = at + 1
        byte = self._buffer[at]
        if byte == _QUOTE:
            self._string = self._at - self._start
        else:
            if byte in (_LIST, _OBJECT):
                self._depth += 1
                self._opened += 1
            else:
                self._depth -= 1
            # What `parse_json` would refuse in the end need not be gathered.
            if self._depth > _MAX_DEPTH or self._opened > MAX_VALUES:
                raise self._no_json()

    def _whole_scalar(self) -> bool:
        match = _SCALAR_END.search(self._buffer, self._start, self._end)
        if match is None:
            if self._end - self._start > _MAX_SCALAR_BYTES:
                raise self._no_json()
            return False
        self._at = match.start()
        return True

    def _escaped(self, end: int) -> bool:
        """Return whether an odd number of backslashes stands before *end*; an open string is before them."""
        size = _FEW_BYTES
        while True:
            tail = self._buffer[max(0, end - size) : end]
            run = len(tail) - len(tail.rstrip(b"\\"))
            if run < len(tail):
                return bool(run % 2)
            size *= 16

    def _take(self, *, audio: bool = False) -> Any:
        """Return the value that lies between _start and _at, and go on behind it."""
        start, end, long = self._start, self._at, self._long
        self._start, self._depth, self._opened, self._long = end, 0, 0, None
        try:
            if audio and long is not None:
                value = self._with_audio(start, start + long[0], start + long[1], end)
                if value is not None:
                    return value
            return parse_json(self._buffer[start:end].decode())
        except UnicodeDecodeError:
            raise DecodeError(f"reply: JSON that is not UTF-8 ({self._read_bytes} bytes)", retryable=True) from None
        except ValueError:
            raise self._no_json() from None

    def _with_audio(self, start: int, opening: int, closing: int, end: int) -> Any:
        """Return the value with its long string as bytes, or None where that is not audio but a case for `json`."""
        rest = self._buffer[start : opening - 1] + _MARK + self._buffer[closing + 1 : end]
        if rest.count(_MARK) > 1 or exceeds_value_limit(rest):
            return None
        try:
            value = _marked.decode(rest.decode())
            # Found by `json` where it looks for it: neither an escaped name nor a second one can mislead us.
            alone = value is _audio
            if alone or (isinstance(value, dict) and value.get("audio_data") is _audio):
                with memoryview(self._buffer) as view, view[opening:closing] as coded:
                    audio = parse_base64(coded)
                return audio if alone else {**value, "audio_data": audio}
        except (ValueError, RecursionError):
            pass
        return None

    def _no_json(self) -> DecodeError:
        return DecodeError(f"reply: {self._read_bytes} bytes that are no JSON reply, or cut off", retryable=True)

    def __repr__(self) -> str:
        return f"<ResultReader {self._count} results, {self._read_bytes} bytes>"

"""Parse a JSON reply to a batch that has arrived whole: `json` parses all of it but its long strings, its audio.

`ResultReader` reads any reply, and this one in half its time (7 against 16 µs a text of 19 KB, with pybase64). It
returns what the reader would, or ``None`` for what is incomplete, damaged or odd: the reader tells what precedes a
fault. `tests/protocols/codecs/test_json_whole.py` compares the two.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

from cosyclient.protocols.codecs.strict import MAX_VALUES, parse_base64_parts

MAX_DEPTH: Final = 200
MAX_MEMBERS: Final = 1000
MIN_LONG_BYTES: Final = 1024
"""A shorter string is left to `json`: the detour costs more than it saves."""
BLANKS: Final = b" \t\n\r"
_BLANKS: Final = BLANKS.decode()
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

PLACEHOLDER: Final = b"-Infinity"
"""What replaces a long string: not JSON, but Python's parser accepts it and calls `parse_constant` for its value."""
AUDIO: Final = object()
"""What a placeholder is parsed to."""
placeholder_decoder: Final = json.JSONDecoder(
    parse_constant=lambda name: AUDIO if name == PLACEHOLDER.decode() else float(name)
)

AUDIO_NAMES: Final = (
    *("audio_data", "audio", "audio_base64", "audioBase64", "audio_b64", "audioContent", "audio_bytes"),
    *("speech", "wav", "mp3"),
)
"""Names of an item's audio; the first is that of the batch protocol."""
GENERAL_AUDIO_NAMES: Final = ("data", "base64", "b64", "b64_json", "content")
"""Names that count only in an item without one of `AUDIO_NAMES`, as they are used for other things, too."""
ALL_AUDIO_NAMES: Final = (*AUDIO_NAMES, *GENERAL_AUDIO_NAMES)

_NAME: Final = '"results"'
_COLON: Final = re.compile(rf"[{_BLANKS}]*:[{_BLANKS}]*")
_END_BYTES: Final = 64


class WholeReply(NamedTuple):
    """A reply parsed: its results, whose audio is bytes already, and the members before and after them.

    Without a list ``results`` all its members are *before* it, and the audio in one of their lists, or beside them, is
    bytes.
    """

    before: dict[str, Any]
    results: list[Any]
    after: dict[str, Any]
    is_bare_list: bool = False
    has_results: bool = True


def parse_whole(body: bytes) -> WholeReply | None:
    """Return the reply in *body*, or ``None`` where it takes a `ResultReader` to read it."""
    # A piece of a longer reply ends inside its audio nearly always.
    if not body[-_END_BYTES:].rstrip(BLANKS).endswith((b"]", b"}")):
        return None
    spans, between = _find_long_strings(body)
    rest = PLACEHOLDER.join(between)
    # So few bytes cannot exceed the limit. Any other placeholder would be taken for a string.
    if len(rest) > MAX_VALUES or rest.count(PLACEHOLDER) != len(spans):
        return None
    try:
        reply = _parse(rest.removeprefix(BYTE_ORDER_MARK).decode().strip(_BLANKS))
        if reply is None:
            return None
        lists, members = [reply.results], reply.before
        if not reply.has_results:
            lists = [[members], *(value for value in members.values() if isinstance(value, list))]
        for results in lists:
            # One of them has all the audio: where names are equal, `json` does not keep the order of several.
            if _decode_audio(results, body, spans):
                # Of the objects that are results, only one adds to the depth of a value.
                objects = [*map(type, results)].count(dict)
                return reply if rest.count(b"[") + rest.count(b"{") - objects <= MAX_DEPTH else None
    except (ValueError, RecursionError):
        pass
    return None


def audio_name(value: dict[str, Any]) -> str | None:
    """Return the name of the audio whose placeholder is in the item *value*; ``None`` if it is something else."""
    for name in ALL_AUDIO_NAMES:
        if value.get(name) is AUDIO:
            return name
    return None


def _decode_audio(results: list[Any], body: bytes, spans: list[tuple[int, int]]) -> bool:
    """Replace the placeholders in *results*, one a result, by their audio; return whether those are all *spans*.

    `json` itself has said what the strings are: one that did not turn up as audio is something else.
    """
    places: list[tuple[Any, Any]] = []
    for place, result in enumerate(results):
        if result is AUDIO:
            places.append((results, place))
        elif isinstance(result, dict) and (name := audio_name(result)):
            places.append((result, name))
    if len(places) != len(spans):
        return False
    with memoryview(body) as view:
        decoded = parse_base64_parts([view[start:end] for start, end in spans])
        for (holder, key), audio in zip(places, decoded, strict=True):
            holder[key] = audio
    return True


def _find_long_strings(body: bytes) -> tuple[list[tuple[int, int]], list[bytes]]:
    """Return where strings of more than `MIN_LONG_BYTES` are in *body*, and the bytes between them without quotes.

    What lies between two quotes is taken for a string without a look at what precedes them. Where it is none, the
    bytes between are no JSON, or their placeholder is inside a string.
    """
    spans, between = [], []
    start = position = 0
    while (closing := body.find(b'"', position + MIN_LONG_BYTES)) >= 0:
        opening = body.rfind(b'"', position, position + MIN_LONG_BYTES)
        position = closing
        if 0 <= opening < closing - MIN_LONG_BYTES - 1:
            between.append(body[start:opening])
            spans.append((opening + 1, closing))
            start = position = closing + 1
    between.append(body[start:])
    return spans, between


def _parse(text: str) -> WholeReply | None:
    """Return the reply in *text*, or ``None`` if it is another document; raises `ValueError` if it is malformed.

    The parts of one with results are parsed one by one, for `json` keeps only the last of equal names.
    """
    if text.startswith("["):
        return WholeReply({}, placeholder_decoder.decode(text), {}, is_bare_list=True)
    head, _, tail = text.partition(_NAME)
    colon = _COLON.match(tail)
    if colon is None or not tail.startswith("[", colon.end()):
        members = placeholder_decoder.decode(text)
        if not isinstance(members, dict) or "results" in members or len(members) >= MAX_MEMBERS:
            return None
        return WholeReply(members, [], {}, has_results=False)
    results, end = placeholder_decoder.raw_decode(tail, colon.end())
    before, after = _members(head.rstrip(_BLANKS), "}"), _members("{", tail[end:].lstrip(_BLANKS))
    if before is None or after is None or len(before) + len(after) >= MAX_MEMBERS:
        return None
    return WholeReply(before, results, after)


def _members(head: str, tail: str) -> dict[str, Any] | None:
    """Return the members of one side of the results, which a comma separates from them; ``None`` if it does not."""
    if head + tail == "{}":
        return {}
    if head.endswith(","):
        head = head[:-1]
    elif tail.startswith(","):
        tail = tail[1:]
    else:
        return None
    members: Any
    members, end = placeholder_decoder.raw_decode(text := head + tail)
    # An empty object is a comma too many; the reader looks for results under an escaped name, too.
    return members if end == len(text) and isinstance(members, dict) and members and "results" not in members else None

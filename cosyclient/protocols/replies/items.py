"""Batch replies in JSON: one object or one base64 string per text, decoded while they arrive.

Reads the form that this project's batch protocol, vLLM-Omni and SGLang-Omni share, and those of `item_shapes`. A reply
has exactly one item per text, or is an error; of one that arrives in pieces, an item at a time is in memory.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from cosyclient.errors import CosyError, DecodeError
from cosyclient.protocols.codecs.json_results import ResultReader
from cosyclient.protocols.replies.errors import error_from_body, error_from_item
from cosyclient.protocols.replies.item_shapes import (
    ItemNumbering,
    decode_item_audio,
    find_results,
    is_success,
    split_audio,
)
from cosyclient.protocols.replies.speech import speech_from_bytes
from cosyclient.util.redaction import short_token

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.models import Speech, Utterance
    from cosyclient.protocols.base import Item
    from cosyclient.protocols.replies.error_rules import MessageRules
    from cosyclient.wire import WireReply

# Members of an error that no batch has.
_ERROR_MEMBERS: Final = ("error", "code", "status_code")
_STATES: Final = frozenset({"status", "success", "ok"})
"""Members that say whether an item succeeded."""
_SHOWN_MEMBERS: Final = 8
_SUCCESS: Final = {"status": "success"}


class PositionCheck:
    """Checks that the items of a reply cover each of *count* positions exactly once; it never reorders anything.

    Call `check_total` when the reply announces its total, `claim` for each item, and `check_complete` at the end. All
    raise `DecodeError`.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = set(range(count))

    def check_total(self, total: object) -> None:
        """Compare the announced *total* with the number of texts sent."""
        if total != self._count or isinstance(total, bool):
            shown = total if isinstance(total, int) and abs(total) < 1 << 31 else "no readable number of"
            raise DecodeError(f"reply: {shown} results announced for {self._count} texts")

    def claim(self, index: object) -> int:
        """Return *index* if it is a position of the request that no item has claimed yet."""
        if not isinstance(index, int) or isinstance(index, bool):
            raise DecodeError("reply: a result names no index")
        if not 0 <= index < self._count:
            shown = f"index {index}" if abs(index) < 1 << 31 else "an index out of range"
            raise DecodeError(f"the reply has {shown}; only 0 to {self._count - 1} were sent")
        if index not in self._free:
            raise DecodeError(f"reply: two results for text {index}")
        self._free.remove(index)
        return index

    def check_complete(self) -> None:
        """Raise if no item has claimed one of the positions."""
        if self._free:
            raise DecodeError(f"reply: no result for {len(self._free)} of {self._count} texts, first {min(self._free)}")

    def __repr__(self) -> str:
        return f"<PositionCheck {self._count - len(self._free)} of {self._count} claimed>"


def items_from_json(
    reply: WireReply, utterances: Sequence[Utterance], *, wall: float, rules: MessageRules = ()
) -> Iterator[list[Item]]:
    """Yield position and result of the items of a JSON reply as soon as they arrive, every position exactly once.

    *rules* are those of its server for the messages of errors. Raises the `ServiceError` of an error
    sent with a success status, or `DecodeError`.
    """
    reader = ResultReader(reply.chunks(), max_results=len(utterances))
    positions = PositionCheck(len(utterances))
    shared = reader.members
    numbering = ItemNumbering(utterances)
    # Items that wait for the end of the reply: those without an index, whose places are certain only if their number is
    # right, and those that precede the members which announce the total and describe the audio.
    held: list[tuple[int, Any]] = []
    for results in reader.results():
        items: list[Item] = []
        early = "total" in shared
        if early:
            positions.check_total(shared["total"])
        try:
            for element in results:
                index = positions.claim(numbering.index_of(element, mixed=reader.is_bare_list))
                if early and numbering.is_explicit:
                    items.append((index, _element(element, shared, utterances, index, reply.status, rules)))
                else:
                    held.append((index, element))
        except DecodeError:
            # Items that were complete before the fault are valid.
            if items:
                yield items
            raise
        if items:
            yield items
    if not reader.has_results:
        listed = find_results(shared, utterances)
        if listed is None and shared.get("results") is None and any(map(shared.get, _ERROR_MEMBERS)):
            raise error_from_body(reply, shared, utterances, wall=wall, rules=rules)
        if listed is None:
            raise DecodeError(f"HTTP {reply.status}: JSON without a list of results")
        held = [(positions.claim(numbering.index_of(element, mixed=False)), element) for element in listed]
        shared = {}
    positions.check_total(shared.get("total", len(utterances)))
    positions.check_complete()
    if held:
        yield [(index, _element(element, shared, utterances, index, reply.status, rules)) for index, element in held]


def _element(
    element: Any,
    shared: dict[str, Any],
    utterances: Sequence[Utterance],
    index: int,
    status: int,
    rules: MessageRules,
) -> Speech | CosyError:
    """Return the result of one element of the list: an object, audio alone, or null for a text that failed."""
    try:
        fields, audio = (
            split_audio(element) if isinstance(element, dict) else (_SUCCESS if element is not None else {}, element)
        )
    except DecodeError as error:
        return error
    return item_result(fields, audio, shared, utterances, index, status, rules)


def item_result(
    fields: dict[str, Any],
    audio: Any,
    shared: dict[str, Any],
    utterances: Sequence[Utterance],
    index: int,
    status: int,
    rules: MessageRules = (),
) -> Speech | CosyError:
    """Return the speech or the error of one item.

    *fields* are its members, *shared* those of the whole reply, *audio* is bytes, base64 text or ``None``.
    """
    if not is_success(fields, audio):
        error = fields.get("error") or fields.get("message") or fields.get("detail")
        if error is None and audio is None and fields and fields.keys().isdisjoint(_STATES):
            names = ", ".join(filter(None, (short_token(name, 40) for name in islice(fields, _SHOWN_MEMBERS))))
            return DecodeError(
                f"audio: none in a result, which has {names or 'other members'}; call it audio_data", retryable=True
            )
        return error_from_item(error, utterances, status=status, rules=rules)
    try:
        return speech_from_bytes(utterances[index], decode_item_audio(audio), fields, shared)
    except CosyError as error:
        return error

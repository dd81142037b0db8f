"""What Alibaba's protocols have in common: error codes, parameters and word timestamps of Model Studio, audio in JSON.

help.aliyun.com/zh/model-studio/error-code and …/cosyvoice-server-events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cosyclient.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    ServiceError,
    ServiceFault,
    Throttled,
    Unauthorized,
)
from cosyclient.protocols.capabilities import own_members
from cosyclient.protocols.codecs.json_body import decode_audio, object_at, word_timing
from cosyclient.protocols.replies.errors import reclassify
from cosyclient.util.extra_fields import Headers
from cosyclient.util.numbers import int_in_range

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosyclient.models import VoiceSettings, Word

_MAX_WORDS: Final = 1_000_000
"""Positions and words, more than any text has: a service that never ends must not fill the memory."""

# By the part of a code before its dot: "Throttling.RateQuota", "InvalidParameter.DataInspection".
_CODES: Final[Mapping[str, type[ServiceError]]] = {
    "Throttling": Throttled,
    "LimitRequests": Throttled,
    "InvalidApiKey": Unauthorized,
    "InvalidParameter": BadRequest,
    "InvalidURL": BadRequest,
    "InvalidFile": BadRequest,
    "BadRequest": BadRequest,
    "DataInspectionFailed": BadRequest,
    "Arrearage": Forbidden,
    "AccessDenied": Forbidden,
    "AllocationQuota": Forbidden,
    "ModelNotFound": NotFound,
    "ModelNotExist": NotFound,
    "InternalError": ServiceFault,
    "InternalFailure": ServiceFault,
    "SystemError": ServiceFault,
    "ServerError": ServiceFault,
    "RequestTimeOut": ServiceFault,
    "ModelServingError": ServiceFault,
    "ModelServiceFailed": ServiceFault,
}


OWN_MEMBERS: Final = own_members(
    "text",
    "text_type",
    model="model",
    voice="voice",
    format="format",
    sample_rate="sample_rate",
    rate="speed",
    seed="seed",
    instruction="instruct",
    word_timestamp_enabled="words",
)
"""The members sent, each with the option that sets it; see `Capabilities.own_members`."""
_WORKSPACE: Final = "workspace"


def extra_and_headers(settings: VoiceSettings) -> tuple[dict[str, Any], tuple[tuple[str, str], ...]]:
    """Return the caller's extra parameters, without the workspace to bill, and the header that carries it."""
    extra = dict(settings.extra or {})
    workspace = extra.pop(_WORKSPACE, None)
    if workspace is None:
        return extra, ()
    return extra, Headers({"X-DashScope-WorkSpace": workspace}).fields()


def reclassify_by_code(error: ServiceError, *, request_id: object = None) -> ServiceError:
    """Return *error* as the type that its code stands for, if the code is known; it is more precise than the status."""
    error_type = _CODES.get((error.code or "").partition(".")[0], type(error))
    return reclassify(error, error_type, request_id=request_id)


def output_audio(output: dict[str, Any]) -> bytes:
    """Return the audio of one ``output`` of the services over HTTP, no bytes if it carries none."""
    encoded = object_at(output, "audio").get("data")
    return decode_audio(encoded) if encoded else b""


class WordTimings:
    """Collects the times of words from sentences that the service repeats, each time with more words."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], Word] = {}

    def add(self, sentence: object) -> None:
        """Add the words of one ``sentence`` that are readable; of a repeated word the last times count."""
        if not isinstance(sentence, dict) or not isinstance(words := sentence.get("words"), list):
            return
        index = sentence.get("index")
        for word in words:
            timing = word_timing(word, text="text", start="begin_time", end="end_time")
            place = int_in_range(word.get("begin_index"), 0, _MAX_WORDS) if timing else None
            if timing is not None and place is not None and len(self._found) < _MAX_WORDS:
                self._found[int_in_range(index, 0, _MAX_WORDS) or 0, place] = timing

    def in_order(self) -> tuple[Word, ...]:
        """Return every word once, in the order of the text."""
        return tuple(word for _, word in sorted(self._found.items()))

    def __repr__(self) -> str:
        return f"<WordTimings {len(self._found)}>"

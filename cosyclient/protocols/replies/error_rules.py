"""What statuses and codes mean, as tables: which error, and where its own answers to who may do what do not hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from cosyclient.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    ServiceError,
    ServiceFault,
    Throttled,
    TooLarge,
    Unauthorized,
)
from cosyclient.util.numbers import int_in_range

if TYPE_CHECKING:
    from collections.abc import Mapping


class Verdict(NamedTuple):
    """Say what a refusal becomes; ``None`` keeps what the error class says."""

    kind: type[ServiceError]
    retryable: bool | None = None
    endpoint_fault: bool | None = None
    wait: float | None = None
    """Seconds to wait where the service names none."""


# One row per status that differs from its hundred.
_BY_STATUS: Final = {
    401: Verdict(Unauthorized),
    402: Verdict(Forbidden),
    403: Verdict(Forbidden),
    404: Verdict(NotFound),
    # A slow upload is as likely our fault as theirs: worth another try, no reason to open the breaker.
    408: Verdict(ServiceError, retryable=True),
    # The first try with this key is still running there; it finishes at the pace of synthesis, not of a back-off.
    409: Verdict(ServiceError, retryable=True, wait=1.0),
    410: Verdict(NotFound),
    413: Verdict(TooLarge),
    414: Verdict(TooLarge),
    425: Verdict(ServiceError, retryable=True),
    429: Verdict(Throttled),
    431: Verdict(TooLarge),
    501: Verdict(ServiceFault, retryable=False),
    505: Verdict(ServiceFault, retryable=False),
}
_BY_HUNDRED: Final = {3: Verdict(ServiceError), 4: Verdict(BadRequest), 5: Verdict(ServiceFault)}

# What one item of an accepted batch can say. The endpoint has answered, so none of these is held against it.
BY_CODE: Final = {
    "malformed_json": BadRequest,
    "validation_failed": BadRequest,
    "text_too_long": BadRequest,
    "text_blank": BadRequest,
    "too_many_texts": BadRequest,
    "not_acceptable": BadRequest,
    "unsupported_media_type": BadRequest,
    "unauthorized": Unauthorized,
    "forbidden": Forbidden,
    "not_found": NotFound,
    "unknown_model": NotFound,
    "unknown_voice": NotFound,
    "body_too_large": TooLarge,
    "rate_limited": Throttled,
    "too_many_connections": Throttled,
    "internal": ServiceFault,
    "bad_upstream": ServiceFault,
    "overloaded": ServiceFault,
    "loading": ServiceFault,
    "draining": ServiceFault,
    "upstream_timeout": ServiceFault,
    # What vLLM and SGLang call theirs.
    "BadRequestError": BadRequest,
    "invalid_request_error": BadRequest,
    "NotFoundError": NotFound,
    "model_not_found": NotFound,
}

# Throttled in name only: no wait helps, somebody has to pay.
SPENT: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
# Where a refusal dressed as a success says its status: problem details, vLLM, Vox-Box.
_STATUSES: Final = ("status", "code", "status_code")


def verdict_on(status: int) -> Verdict | None:
    """Return what a refusal with this status is, or ``None`` if it is no status of a refusal."""
    return _BY_STATUS.get(status) or _BY_HUNDRED.get(status // 100)


def told_status(problem: Mapping[str, Any]) -> int | None:
    """Return the status that *problem* itself tells of, or ``None``."""
    return next(
        (status for name in _STATUSES if (status := int_in_range(problem.get(name), 300, 599)) is not None), None
    )


Sayings: TypeAlias = tuple[tuple["re.Pattern[str]", Verdict], ...]
"""What one server says, from its first word on, where its status misleads or there is none; the first decides."""


def said_verdict(detail: object, sayings: Sayings) -> Verdict | None:
    """Return what a server that has these *sayings* means by *detail*, or ``None``."""
    if not isinstance(detail, str):
        return None
    return next((verdict for saying, verdict in sayings if saying.match(detail)), None)


def _sayings(lead: str, **verdicts: tuple[type[ServiceError], tuple[str, ...]]) -> Sayings:
    """Return the sayings of a server that may begin with *lead*, as a pattern; those of each group mean its error."""
    return tuple(
        (re.compile(f"(?:{lead})?(?:{'|'.join(words)})", re.DOTALL), Verdict(kind)) for kind, words in verdicts.values()
    )


VLLM_OMNI: Final = _sayings(
    r"Speech generation failed: |Generation failed for utterance \d+, sentence \d+: ",
    callers=(
        BadRequest,
        (
            *("Unknown voice '", "Invalid voice '", "Uploaded voice '", "Audio file for uploaded voice '"),
            *("CosyVoice3 requires '", "Input text cannot be empty", "ref_audio must be ", "Reference audio too "),
            *(r"Error opening .*Format not recogni", "max_new_tokens ", "sample_rate(=\\d+)? is not supported"),
            *(
                "word_timestamps=true requires ",
                "word_timestamps=true but ",
                r".* longer than the maximum model length",
            ),
        ),
    ),
    models=(NotFound, (r".*The model `[^`]*` does not exist",)),
    # Before 0.30 these came with 400.
    faults=(ServiceFault, ("Speech generation failed: ", "Internal error: ")),
)
"""vLLM-Omni, whose items of a batch and errors over WebSocket have no codes."""

XINFERENCE: Final = _sayings(
    r"\[address=[^\]]*\] |Internal Server Error: ",
    callers=(
        BadRequest,
        (
            r"Invalid voice .*, CosyVoice available speakers",
            r"CosyVoice (SFT |Instruct )?model (does not support|expect)",
            r"\d+ validation errors? for SpeechRequest",
            "wav sample rate ",
            "do not support extract speech token for audio longer than 30s",
            # Of a text that has nothing to be spoken there is nothing to be joined.
            r"torch\.cat\(\): expected a non-empty list",
        ),
    ),
)
"""Xinference, which says 500 of whatever a model raises."""

VOX_BOX: Final = _sayings("Failed to generate speech, ", callers=(BadRequest, (r"Voice .* not supported$",)))
"""Vox-Box, which says 500 inside a 200 of whatever a model raises."""

LIGHT_TTS: Final = _sayings(
    "Server error: ",
    callers=(BadRequest, ("The input is too long and the resulting audio will be incomplete",)),
)
"""LightTTS, which says 417 of whatever goes wrong inside, or nothing but words over its WebSocket."""

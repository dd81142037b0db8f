"""Tables from HTTP statuses, error codes and server messages to the error classes of `cosyclient.errors`.

Statuses from RFC 9110 and 6585, codes from this project's batch protocol, OpenAI, vLLM and SGLang; messages from the
sources of vLLM-Omni, Xinference, Vox-Box and LightTTS. Pure data and lookups, nothing is read here.
"""

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


class ErrorRule(NamedTuple):
    """What one status, code or message means; ``None`` keeps the default of the error class."""

    error_type: type[ServiceError]
    retryable: bool | None = None
    endpoint_fault: bool | None = None
    retry_after: float | None = None
    """Seconds to wait before the next attempt where the service names none."""


# One row per status that differs from its class of a hundred.
_BY_STATUS: Final = {
    401: ErrorRule(Unauthorized),
    402: ErrorRule(Forbidden),
    403: ErrorRule(Forbidden),
    404: ErrorRule(NotFound),
    # A slow upload is as likely caused here as there: worth a retry, no reason to open the breaker.
    408: ErrorRule(ServiceError, retryable=True),
    # The first attempt with this key still runs on the server; it ends at the pace of synthesis, not of a back-off.
    409: ErrorRule(ServiceError, retryable=True, retry_after=1.0),
    410: ErrorRule(NotFound),
    413: ErrorRule(TooLarge),
    414: ErrorRule(TooLarge),
    425: ErrorRule(ServiceError, retryable=True),
    429: ErrorRule(Throttled),
    431: ErrorRule(TooLarge),
    501: ErrorRule(ServiceFault, retryable=False),
    505: ErrorRule(ServiceFault, retryable=False),
}
_BY_CLASS: Final = {3: ErrorRule(ServiceError), 4: ErrorRule(BadRequest), 5: ErrorRule(ServiceFault)}

# Codes of one item of an accepted batch. The endpoint has answered, so none of these counts as its fault.
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
    # The codes of vLLM and SGLang.
    "BadRequestError": BadRequest,
    "invalid_request_error": BadRequest,
    "NotFoundError": NotFound,
    "model_not_found": NotFound,
}

# Sent with 429, but no wait helps: the account has to be paid for.
QUOTA_EXHAUSTED: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
# Members that hold the status of an error sent with 200: problem details, vLLM, Vox-Box.
_STATUSES: Final = ("status", "code", "status_code")


def rule_for_status(status: int) -> ErrorRule | None:
    """Return the rule for *status*, or ``None`` if it is no error status."""
    return _BY_STATUS.get(status) or _BY_CLASS.get(status // 100)


def status_in(problem: Mapping[str, Any]) -> int | None:
    """Return the error status among the members of *problem*, or ``None``."""
    return next(
        (status for name in _STATUSES if (status := int_in_range(problem.get(name), 300, 599)) is not None), None
    )


MessageRules: TypeAlias = tuple[tuple["re.Pattern[str]", ErrorRule], ...]
"""Patterns of one server's messages, matched from their start, where its status misleads or is missing; the first match
decides."""


def rule_for_message(detail: object, rules: MessageRules) -> ErrorRule | None:
    """Return the first of *rules* that *detail* matches, or ``None``."""
    if not isinstance(detail, str):
        return None
    return next((rule for pattern, rule in rules if pattern.match(detail)), None)


def _message_rules(prefix: str, **groups: tuple[type[ServiceError], tuple[str, ...]]) -> MessageRules:
    """Return a rule per group: an error type, and the patterns of its messages, each behind an optional *prefix*."""
    return tuple(
        (re.compile(f"(?:{prefix})?(?:{'|'.join(patterns)})", re.DOTALL), ErrorRule(error_type))
        for error_type, patterns in groups.values()
    )


VLLM_OMNI: Final = _message_rules(
    r"Speech generation failed: |Generation failed for utterance \d+, sentence \d+: ",
    caller=(
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
    model=(NotFound, (r".*The model `[^`]*` does not exist",)),
    # Before 0.30 these came with 400.
    service=(ServiceFault, ("Speech generation failed: ", "Internal error: ")),
)
"""vLLM-Omni: its batch items and its errors over WebSocket carry no codes."""

XINFERENCE: Final = _message_rules(
    r"\[address=[^\]]*\] |Internal Server Error: ",
    caller=(
        BadRequest,
        (
            r"Invalid voice .*, CosyVoice available speakers",
            r"CosyVoice (SFT |Instruct )?model (does not support|expect)",
            r"\d+ validation errors? for SpeechRequest",
            "wav sample rate ",
            "do not support extract speech token for audio longer than 30s",
            # Raised for a text in which there is nothing to speak.
            r"torch\.cat\(\): expected a non-empty list",
        ),
    ),
)
"""Xinference: it answers 500 to every exception of a model."""

VOX_BOX: Final = _message_rules("Failed to generate speech, ", caller=(BadRequest, (r"Voice .* not supported$",)))
"""Vox-Box: it answers 200 with a 500 in the body to every exception of a model."""

LIGHT_TTS: Final = _message_rules(
    "Server error: ",
    caller=(BadRequest, ("The input is too long and the resulting audio will be incomplete",)),
)
"""LightTTS: it answers 417 to every internal error, and over WebSocket a message without a code."""

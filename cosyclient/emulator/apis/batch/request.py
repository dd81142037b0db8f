"""Read a batch request and check it against the rules of the protocol."""

from __future__ import annotations

import json
import math
import zlib
from typing import TYPE_CHECKING, Any, NoReturn

from cosyclient.emulator.core.problems import Problem, too_large
from cosyclient.emulator.speech.items import Batch
from cosyclient.emulator.speech.voices import DEFAULT_MODEL, MODELS, VOICES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FORMATS = ("wav", "pcm", "mp3", "opus")
SAMPLE_RATES = (8000, 16000, 22050, 24000, 44100, 48000)
MOST_TEXTS = 64
LONGEST_TEXT = 4096
LONGEST_INSTRUCTION = 500


def check_media_type(content_type: str) -> None:
    """Accept JSON in UTF-8, refuse anything else with 415."""
    name, *parameters = [part.strip().lower() for part in content_type.split(";")]
    charsets = [part.partition("=")[2].strip('" ') for part in parameters if part.startswith("charset=")]
    if name != "application/json" or any(charset not in ("utf-8", "utf8") for charset in charsets):
        shown = content_type or "nothing"
        raise Problem("unsupported_media_type", f"Content-Type must be application/json in UTF-8, not {shown}")


def inflate(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """Undo the content encoding of a request, never holding more than *most_bytes* of what comes out."""
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            pass
        case other:
            raise Problem("unsupported_media_type", f"Content-Encoding must be gzip, not {other}")
    decoder = zlib.decompressobj(wbits=31)
    try:
        plain = decoder.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise Problem("malformed_json", f"the body is not gzip: {error}") from error
    if len(plain) > most_bytes:
        raise too_large(most_bytes)
    if not decoder.eof:
        raise Problem("malformed_json", "the gzip body ends too early")
    return plain


def read_batch(body: bytes) -> Batch:
    """Turn a body into a batch, or raise the Problem that names the member and the rule."""
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Problem("malformed_json", f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise _broken([("", "must be an object")])
    errors: list[tuple[str, str]] = []
    texts = _texts(document, errors)
    values = {name: _member(document, name, errors) for name in _RULES}
    if errors:
        raise _broken(errors)
    if values["model"] not in MODELS:
        raise Problem("unknown_model", f"there is no model {values['model']!r}")
    if values["voice"] not in VOICES:
        raise Problem("unknown_voice", f"there is no voice {values['voice']!r}")
    return Batch(texts=texts, **values)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _broken(errors: list[tuple[str, str]]) -> Problem:
    pointer, detail = errors[0]
    return Problem("validation_failed", f"{pointer or 'the body'} {detail}", errors=errors)


def _texts(document: Mapping[str, Any], errors: list[tuple[str, str]]) -> list[str]:
    texts = document.get("texts")
    if not isinstance(texts, list) or not texts:
        errors.append(("/texts", f"must be an array of 1 to {MOST_TEXTS} strings"))
        return []
    if len(texts) > MOST_TEXTS:
        detail = f"must hold at most {MOST_TEXTS} texts, not {len(texts)}"
        raise Problem("too_many_texts", f"/texts {detail}", errors=[("/texts", detail)])
    for index, text in enumerate(texts):
        # One cheap test passes nearly every text; only a failing one is examined for the reason.
        if not (type(text) is str and len(text) <= LONGEST_TEXT and text.strip() and _is_sound(text)):
            errors.append((f"/texts/{index}", _text_rule(text)))
    return texts


def _is_sound(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text_rule(text: object) -> str:
    if not isinstance(text, str):
        return "must be a string"
    if len(text) > LONGEST_TEXT:
        return f"must be at most {LONGEST_TEXT} code points, not {len(text)}"
    return "must not hold lone surrogates" if text.strip() else "must not be blank"


def _is_string(value: object) -> bool:
    return isinstance(value, str) and _is_sound(value)


def _is_whole(value: object) -> bool:
    return type(value) is int


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


_RULES: dict[str, tuple[Any, Callable[[Any], bool], str]] = {
    "model": (DEFAULT_MODEL, _is_string, "must be a string"),
    "voice": ("default", _is_string, "must be a string"),
    "format": ("wav", lambda value: value in FORMATS, f"must be one of {', '.join(FORMATS)}"),
    "sample_rate": (
        24000,
        lambda value: _is_whole(value) and value in SAMPLE_RATES,
        f"must be one of {', '.join(map(str, SAMPLE_RATES))}",
    ),
    "speed": (1.0, lambda value: _is_number(value) and 0.5 <= value <= 2.0, "must be a number from 0.5 to 2.0"),
    "instruct": (
        None,
        lambda value: _is_string(value) and len(value) <= LONGEST_INSTRUCTION,
        f"must be a string of at most {LONGEST_INSTRUCTION} code points, or null",
    ),
    "seed": (
        None,
        lambda value: _is_whole(value) and 0 <= value <= 65535,
        "must be an integer from 0 to 65535, or null",
    ),
}
_NULLABLE = ("model", "instruct", "seed")


def _member(document: Mapping[str, Any], name: str, errors: list[tuple[str, str]]) -> Any:
    default, accepts, rule = _RULES[name]
    if name not in document or (name in _NULLABLE and document[name] is None):
        return default
    value = document[name]
    if not accepts(value):
        errors.append((f"/{name}", rule))
    return value

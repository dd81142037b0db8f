"""Encode forms deterministically: the same fields give the same bytes, so a retry equals the first attempt.

``application/x-www-form-urlencoded`` as in the URL standard of WHATWG, ``multipart/form-data`` as in RFC 7578.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from cosyclient.errors import BadUtterance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosyclient.voices import Prompt

URLENCODED: Final = "application/x-www-form-urlencoded"
_FIELD: Final = '--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
_FILE: Final = (
    '--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="prompt.wav"\r\n'
    "Content-Type: audio/wav\r\n\r\n"
)
_BOUNDARY_CHARACTERS: Final = 32
_FRAMING_BYTES: Final = len(_FILE) + _BOUNDARY_CHARACTERS + 8


def encode_form(fields: Mapping[str, str], file: tuple[str, Prompt] | None = None) -> tuple[str, bytes]:
    """Return media type and body of a form of *fields*; multipart with a *file*, a field name and its recording."""
    if file is None:
        return URLENCODED, urlencode(fields).encode("ascii")
    name, prompt = file
    # A digest of the content: equal forms have equal boundaries, and no text can be made to contain its own.
    digest = hashlib.sha256(f"{name}\0{prompt.digest}".encode())
    for each, value in fields.items():
        digest.update(f"\0{each}\0{value}".encode())
    boundary = digest.hexdigest()[:_BOUNDARY_CHARACTERS]
    parts: list[bytes] = []
    for each, value in fields.items():
        parts += (_FIELD.format(boundary=boundary, name=each).encode(), value.encode(), b"\r\n")
    parts += (_FILE.format(boundary=boundary, name=name).encode(), prompt.wav, f"\r\n--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", b"".join(parts)


def path_segment(field: str, name: str) -> str:
    """Return *name* escaped as one segment of a path; `BadUtterance`, naming *field*, for ``.`` and ``..``."""
    if name in (".", ".."):
        raise BadUtterance(f"{field}: {name!r} cannot be part of a path")
    return quote(name, safe="")


def max_form_bytes(fields: Mapping[str, str], file: tuple[str, Prompt] | None = None) -> int:
    """Return an upper bound of the length of `encode_form`'s body without encoding it."""
    if file is None:
        return len(urlencode(fields))
    name, prompt = file
    texts = sum(_FRAMING_BYTES + len(each) + len(value.encode()) for each, value in fields.items())
    return texts + 2 * _FRAMING_BYTES + len(name) + len(prompt.wav)

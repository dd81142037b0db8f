"""Read forms as Starlette does under FastAPI, and report what is missing as FastAPI does."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from cosyclient.emulator.core.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_BYTES = 64 << 20
"""Far more than a prompt and a text weigh: the servers themselves have no limit."""
_MOST_PART_BYTES = 1024 << 10
_NAME = re.compile(rb'[; ]name="([^"]*)"')
_FILE_NAME = re.compile(rb'[; ]filename="([^"]*)"')


@dataclass(frozen=True)
class Form:
    """A parsed form: texts and files by name."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """File names of the files."""


class Invalid(Problem):
    """Refuse a form with the list that FastAPI shows as ``detail``."""

    def __init__(self, faults: list[dict[str, Any]]) -> None:
        super().__init__("validation_failed", "the form breaks a rule")
        self.faults = faults


def read_form(content_type: str, body: bytes) -> Form:
    """Return the form that *body* is; a body of another type is an empty form, as for FastAPI."""
    kind, _, parameters = content_type.partition(";")
    match kind.strip().lower():
        case "application/x-www-form-urlencoded":
            return Form(dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)))
        case "multipart/form-data":
            return _parts(body, re.search(r'boundary="?([^";]+)', parameters))
        case _:
            return Form()


def require_fields(form: Form, texts: Sequence[str] = (), files: Sequence[str] = ()) -> None:
    """Raise `Invalid` for texts and files that are missing, with FastAPI's entries."""
    faults = []
    for name in (*texts, *files):
        wants_file = name in files
        if wants_file and name in form.fields:
            faults.append(fault("value_error", name, "Value error, Expected UploadFile, received: <class 'str'>"))
        elif not wants_file and name in form.files:
            faults.append(fault("string_type", name, "Input should be a valid string"))
        elif (form.files if wants_file else form.fields).get(name) is None:
            # An empty text counts as present.
            faults.append(fault("missing", name, "Field required"))
    if faults:
        raise Invalid(faults)


def fault(kind: str, name: str, message: str, given: Any = None) -> dict[str, Any]:
    """Return one entry of FastAPI's list."""
    return {"type": kind, "loc": ["body", name], "msg": message, "input": given}


def _parts(body: bytes, boundary: re.Match[str] | None) -> Form:
    form = Form()
    if boundary is None:
        raise Problem("malformed_json", "Missing boundary in multipart.", status=400)
    # What precedes the first delimiter is ignored; two dashes follow the last one.
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode("latin-1"))[1:]
    if not pieces or pieces[-1][:2] != b"--":
        raise Problem("malformed_json", "There was an error parsing the body", status=400)
    for piece in pieces[:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if name is None:
            raise Problem("malformed_json", 'The Content-Disposition header field "name" must be provided.', status=400)
        key = name[1].decode("utf-8", "replace")
        if file := _FILE_NAME.search(head):
            form.files[key], form.names[key] = content, file[1].decode("utf-8", "replace")
        elif len(content) > _MOST_PART_BYTES:
            raise Problem("malformed_json", "Part exceeded maximum size of 1024KB.", status=400)
        else:
            form.fields[key] = content.decode("utf-8", "replace")
    return form

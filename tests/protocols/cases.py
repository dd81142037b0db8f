"""Every form of every protocol's reply: the cases of the families' `cases` modules, which are found by their name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.protocols.protocol_case import ProtocolCase

_FAMILIES = sorted(path.parent.name for path in Path(__file__).parent.glob("*/cases.py"))
CASES: list[ProtocolCase] = [
    case for family in _FAMILIES for case in import_module(f"tests.protocols.{family}.cases").CASES
]

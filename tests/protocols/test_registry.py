"""The registry: data that imports nothing, and that agrees with the implementations."""

from __future__ import annotations

import json
import subprocess
import sys

from cosyclient.config import WireConfig
from cosyclient.protocols.openai.dialects import DIALECTS
from cosyclient.protocols.registry import _FAMILIES, ENTRIES, every_name, protocol_for

_EXTRAS = {"grpc", "numpy", "pybase64", "soxr", "websockets"}


def test_the_registry_imports_no_implementation_and_no_extra() -> None:
    """Both are imported when a protocol is asked for by its name."""
    program = "import sys, json, cosyclient.protocols.registry; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    imported = set(json.loads(done.stdout))
    assert not imported & _EXTRAS
    assert not imported & {entry.implementation.partition(":")[0] for entry in ENTRIES.values()}


def test_every_name_is_declared_once_and_has_an_implementation_of_its_medium() -> None:
    """A dialect that its implementation does not know would fail here."""
    declared = [entry.name for family in _FAMILIES for entry in family.ENTRIES]
    assert sorted(declared) == sorted(every_name())
    for name, entry in ENTRIES.items():
        protocol = protocol_for(name, WireConfig())
        assert protocol.name in (name, entry.family)
        assert protocol.capabilities.medium == entry.medium


def test_every_dialect_of_openai_is_declared() -> None:
    """What it sends stands in `DIALECTS`, how it is found in the package."""
    assert {entry.dialect for entry in ENTRIES.values() if entry.family == "openai"} == set(DIALECTS)


def test_one_protocol_is_the_default_of_a_medium() -> None:
    """An address that tells nothing means one thing."""
    defaults = [entry.medium for entry in ENTRIES.values() if entry.is_default]
    assert len(defaults) == len(set(defaults))
    assert "http" in defaults

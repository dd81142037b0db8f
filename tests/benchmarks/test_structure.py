"""The layers of the benchmarks, read from their imports, and a test for every module."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Final

import pytest

import benchmarks
from benchmarks.suites.scaling.plan import PEERS

ROOT: Final = Path(benchmarks.__file__).parent
TESTS: Final = Path(__file__).parents[1]
MODULES: Final = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
LAYERS: Final = ("benchmarks.peers", "benchmarks.harness", "benchmarks.suites", "benchmarks")
"""Bottom first; a module imports its own layer and those below."""
INSTALLED: Final = {"cosyclient", "benchmarks", "tests", "httpx", "urllib3", "pybreaker", "backoff"}
"""Packages that are always there, beside the standard library: they need no import inside a function."""


def layer(module: str) -> int:
    """Return the layer of *module*."""
    return next(n for n, package in enumerate(LAYERS) if f"{module}.".startswith(f"{package}."))


def imported(path: Path) -> list[tuple[ast.stmt, str]]:
    """Return what the file imports, types included, each with its statement; modules of the benchmarks by full name."""
    found: list[tuple[ast.stmt, str]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layers"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(node, name if name in MODULES else str(node.module)) for name in names]
    return found


IMPORTS: Final = {
    name: {target for _, target in imported(path) if target in MODULES and target != name}
    for name, path in MODULES.items()
}


@pytest.mark.parametrize("name", MODULES)
def test_no_module_imports_from_a_layer_above(name: str) -> None:
    """The harness knows no suite, and a peer knows neither, not even for types."""
    for target in IMPORTS[name]:
        assert layer(target) <= layer(name), f"{name} imports {target}"


@pytest.mark.parametrize("name", [name for name in MODULES if layer(name) == LAYERS.index("benchmarks.suites")])
def test_no_suite_imports_another(name: str) -> None:
    """What two of them share belongs to the harness."""
    for target in IMPORTS[name]:
        if layer(target) == layer(name):
            assert target.split(".")[2] == name.split(".")[2], f"{name} imports {target}"


def test_no_import_is_circular() -> None:
    """Not even one for types."""
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for target in IMPORTS[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


@pytest.mark.parametrize("name", MODULES)
def test_only_optional_packages_are_imported_inside_functions(name: str) -> None:
    """Where a package may be missing, the module that needs it can still be imported."""
    for node, target in imported(MODULES[name]):
        package = target.split(".")[0]
        inside = node.col_offset > 0 and not _is_for_types(MODULES[name], node)
        assert not inside or (package not in INSTALLED and package not in sys.stdlib_module_names), f"{name}: {target}"


def _is_for_types(path: Path, node: ast.stmt) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    blocks = [each for each in tree.body if isinstance(each, ast.If) and ast.unparse(each.test) == "TYPE_CHECKING"]
    return any(block.lineno < node.lineno <= (block.end_lineno or 0) for block in blocks)


def test_every_module_has_a_test() -> None:
    """It is imported by one, or is the module of a client or of a process that one runs."""
    tested = {target for path in TESTS.rglob("*.py") for _, target in imported(path)}
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    clients = {peer.client.rpartition(".")[0] for peer in PEERS}
    processes = {"benchmarks.suites.chaos.process"}  # run by test_chaos
    untested = MODULES.keys() - tested - packages - clients - processes
    assert not untested

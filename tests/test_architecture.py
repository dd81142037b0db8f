"""The layers, read from the imports: which module may import which, and where threads, waits and packages may be."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import cosyclient

ROOT = Path(cosyclient.__file__).parent
TESTS = Path(__file__).parent
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

LAYERS = {
    0: {"errors", "clock", "events", "util"},
    1: {"audio", "voices", "models", "wire", "config"},
    2: {"policies", "protocols", "transports"},
    3: {"endpoints"},
    4: {"pipeline"},
    5: {"client", "__init__"},
    6: {"testing", "jobs", "cli", "emulator", "__main__"},
}
"""Top-level modules and packages of the library by layer; a module imports its own layer and those below."""
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names}
PIPELINE = {"queue": 0, "calls": 1}
"""The layers inside the pipeline; its other modules stand above both."""
TYPES_ONLY = {("errors.py", "cosyclient.models")}
"""Imports of a layer above that exist for annotations alone: an error carries the speech that had come."""

# Where each third-party package may be imported.
PACKAGES: dict[str, str | tuple[str, ...]] = {
    "httpx": "transports/",
    "urllib3": "transports/",
    "pybreaker": "policies/breaker.py",
    "backoff": "policies/retry.py",
    "pybase64": "protocols/codecs/strict.py",
    "websockets": "transports/",
    "tqdm": "cli/",
    "starlette": "emulator/",
    "uvicorn": "emulator/",
    "numpy": ("emulator/", "audio/pcm.py", "protocols/cosyvoice/prompt_audio.py"),
    "soundfile": "emulator/",
    "soxr": ("emulator/", "protocols/cosyvoice/prompt_audio.py"),
    "grpc": ("emulator/", "transports/"),
    "google": "emulator/",
    "espeakng_loader": "emulator/",
    "pytest": "emulator/pytest_plugin.py",
}
# The language and the platform; everything else must be named above.
THREADS = {
    "util/threads.py",
    "util/timers.py",
    "pipeline/calls/workers.py",
    "pipeline/calls/duplex.py",
    "transports/resolver.py",
    "transports/grpc/reply.py",
    "emulator/",
}
WAITS = {
    "clock.py",
    "util/timers.py",
    "pipeline/calls/workers.py",
    "pipeline/queue/batcher.py",
    "pipeline/queue/pending.py",
    "policies/bulkhead.py",
    "transports/grpc/reply.py",
    "transports/slots.py",
    "transports/resolver.py",
    "testing.py",
    "emulator/",
}

COVERED_BY = {
    "tests/cli/test_cli.py": ("cli/options.py", "cli/commands/emulator.py", "cli/commands/sizing.py"),
    "tests/cli/commands/test_doctor.py": ("cli/detect.py", "cli/measuring.py"),
    "tests/test_readme.py": ("cli/commands/protocols.py",),
    "tests/jobs/test_job.py": ("cli/commands/synth.py", "jobs/manifest.py"),
    "tests/integration/test_unspoken.py": ("protocols/replies/speech.py",),
    "tests/config/test_records.py": ("config/resolve.py", "config/sizing.py"),
    "tests/test_client.py": (
        "pipeline/admission.py",
        "pipeline/pipeline.py",
        "pipeline/stats.py",
        "pipeline/calls/batch_call.py",
        "pipeline/calls/retrying.py",
        "pipeline/queue/flow_control.py",
    ),
    "tests/concurrency/test_client.py": ("pipeline/queue/completion.py",),
    "tests/integration/test_fork.py": ("pipeline/shared.py",),
    "tests/pipeline/calls/test_execution.py": ("pipeline/calls/context.py", "pipeline/calls/unary.py"),
    "tests/pipeline/queue/test_batcher.py": ("pipeline/queue/batch.py",),
    "tests/contracts/test_protocols.py": (
        "protocols/base.py",
        "protocols/capabilities.py",
        "protocols/lighttts/http.py",
        "protocols/single_text.py",
        "protocols/cosyvoice/prompt_text.py",
        "protocols/replies/pcm.py",
        "protocols/replies/peeked.py",
    ),
    "tests/protocols/test_registry.py": ("protocols/entry.py", "protocols/openai/dialects.py"),
    "tests/protocols/openai/test_request.py": ("protocols/openai/protocol.py",),
    "tests/protocols/replies/test_errors.py": ("protocols/replies/error_rules.py",),
    "tests/protocols/cosyvoice/test_http.py": ("protocols/codecs/forms.py",),
    "tests/protocols/codecs/test_json_results.py": ("protocols/codecs/json_body.py",),
    "tests/protocols/codecs/test_protobuf.py": ("protocols/triton/tensors.py",),
    "tests/contracts/test_transports.py": ("transports/base.py", "wire.py"),
    "tests/contracts/test_apis.py": ("emulator/apis/",),
    "tests/emulator/apis/test_http.py": ("emulator/core/service.py", "emulator/server/"),
    "tests/emulator/core/test_limits.py": ("emulator/core/gpu.py",),
    "tests/emulator/speech/test_engines.py": ("emulator/speech/",),
    "tests/emulator/server/test_launcher.py": ("emulator/extra.py",),
}
"""Modules, or all modules of a package, that a suite tests which does not have their name."""


@cache
def _tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"))


@cache
def _imports(name: str, *, runtime_only: bool = False) -> tuple[str, ...]:
    """Return the modules *name* imports; with *runtime_only*, those under TYPE_CHECKING are left out."""
    tree = _tree(name)
    hidden: set[ast.AST] = set()
    if runtime_only:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                hidden.update(ast.walk(node))
    found: list[str] = []
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative imports hide the layer"
            module = node.module or ""
            # `from cosyclient import audio` means that package, `from cosyclient import CosyClient` the public names.
            found += [f"{module}.{alias.name}" if module == "cosyclient" else module for alias in node.names]
    return tuple(found)


def _part(module: str) -> str:
    """Return the top-level module or package of the library that *module* is or lies in."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYER_OF else "__init__"


def _own_part(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


@pytest.mark.parametrize("name", FILES)
def test_every_module_has_a_layer(name: str) -> None:
    """A new top-level module or package is given a layer, or belongs into a package."""
    assert _own_part(name) in LAYER_OF


@pytest.mark.parametrize("name", FILES)
def test_no_module_imports_from_above(name: str) -> None:
    """A module imports its own layer and those below, never one above, not even for its types."""
    own = _own_part(name)
    for module in _imports(name):
        if module.split(".")[0] != "cosyclient" or (name, module) in TYPES_ONLY:
            continue
        part = _part(module)
        assert LAYER_OF[part] <= LAYER_OF[own], f"{name} imports {module} from a layer above its own"


@pytest.mark.parametrize("name", [name for name in FILES if _own_part(name) in LAYERS[2]])
def test_packages_of_layer_two_never_import_each_other(name: str) -> None:
    """Policies, protocols and transports import their own package and the layers below."""
    for module in _imports(name):
        part = _part(module) if module.startswith("cosyclient") else ""
        assert part not in LAYERS[2] - {_own_part(name)}, f"{name} imports {module}"


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("pipeline/")])
def test_the_queue_stands_below_the_calls_and_both_below_the_rest_of_the_pipeline(name: str) -> None:
    """What waits knows nothing of what sends it."""
    own = PIPELINE.get(name.split("/")[1], 2)
    for module in _imports(name):
        if module.startswith("cosyclient.pipeline."):
            assert PIPELINE.get(module.split(".")[2], 2) <= own, f"{name} imports {module}"


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("policies/") and "__init__" not in name])
def test_policies_never_import_each_other(name: str) -> None:
    """A policy imports no other policy, but for the parts of its own package; the call composes them."""
    own = "cosyclient." + "/".join(name.split("/")[:2]).removesuffix(".py").replace("/", ".")
    for module in _imports(name):
        if module.startswith("cosyclient.policies."):
            assert module == "cosyclient.policies.base" or f"{module}.".startswith(f"{own}.")


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("jobs/")])
def test_jobs_import_nothing_of_the_command_line(name: str) -> None:
    """A job is given its progress bar and its interrupt, so that it runs without a terminal."""
    assert not [module for module in _imports(name) if f"{module}.".startswith(("cosyclient.cli.", "argparse."))]


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("emulator/")])
def test_the_emulator_shares_no_code_with_what_it_tests(name: str) -> None:
    """A mistake made twice in one place would pass its own test."""
    for module in _imports(name):
        assert not module.startswith("cosyclient") or module.startswith("cosyclient.emulator"), module


@pytest.mark.parametrize("name", FILES)
def test_each_third_party_package_is_imported_in_one_place(name: str) -> None:
    """So that it can be replaced in one place."""
    for module in _imports(name, runtime_only=True):
        where = PACKAGES.get(module.split(".")[0])
        assert where is None or name.startswith(where), f"{name} imports {module}"


@pytest.mark.parametrize("name", FILES)
def test_layers_zero_and_one_import_the_standard_library_alone(name: str) -> None:
    """They import nothing third-party at all."""
    if LAYER_OF[_own_part(name)] > 1:
        return
    import sys

    for module in _imports(name):
        top = module.split(".")[0]
        assert top == "cosyclient" or top in sys.stdlib_module_names, f"{name} imports {module}"


@cache
def _calls(name: str) -> frozenset[str]:
    tree = _tree(name)
    return frozenset(ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))


@pytest.mark.parametrize("name", FILES)
def test_threads_start_only_where_they_are_counted(name: str) -> None:
    """A module that starts a thread also ends it."""
    starters = {"threading.Thread", "Thread", "ThreadPoolExecutor", "threading.Timer", "Timer"}
    starters |= {"_thread.start_new_thread", "start_thread"}
    if not any(name.startswith(place) for place in THREADS):
        assert not _calls(name) & starters, name


@pytest.mark.parametrize("name", FILES)
def test_waits_happen_only_where_deadlines_are_kept(name: str) -> None:
    """`time.sleep` nowhere (the emulator's adversary aside), conditions and events only where deadlines are kept."""
    if any(name.startswith(place) for place in WAITS):
        return
    for call in _calls(name):
        assert call != "time.sleep", f"{name} calls {call}"
        # A waiter's wait is the one that a caller is there for.
        assert not call.endswith(".wait") or call == "waiter.wait", f"{name} calls {call}"


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("emulator/")])
def test_no_wait_leaves_a_lock_held_when_it_is_interrupted(name: str) -> None:
    """An interrupt could leave a condition locked for ever; see "How this library waits and acquires" in clock.py."""
    entered = {"Condition", "Event", "Semaphore", "BoundedSemaphore", "Barrier", "Queue", "LifoQueue", "PriorityQueue"}
    # A future's own condition is made anew where it may be held for ever.
    allowed = {"threading.Condition"} if name == "pipeline/queue/pending.py" else set()
    made = {call for call in _calls(name) if call.rpartition(".")[0] in ("threading", "queue")}
    assert not {call for call in made - allowed if call.rpartition(".")[2] in entered}, name
    tree = _tree(name)
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert not named & (entered - {"Event"}), name  # the class of the library's events has that name too


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(("__init__.py", "__main__.py"))])
def test_every_module_has_tests(name: str) -> None:
    """Under its own name, or in a suite that `COVERED_BY` names."""
    folder, _, file = name.rpartition("/")
    rows = [row for rows in COVERED_BY.values() for row in rows]
    assert (TESTS / folder / f"test_{file}").exists() or any(
        name == row or (row.endswith("/") and name.startswith(row)) for row in rows
    ), f"add tests/{folder}/test_{file}, or a row to COVERED_BY"


@pytest.mark.parametrize("suite", COVERED_BY)
def test_every_row_of_covered_by_names_what_exists(suite: str) -> None:
    """A suite or a module that was moved takes its row along."""
    assert (TESTS.parent / suite).exists()
    assert not [row for row in COVERED_BY[suite] if not (ROOT / row).exists()]


def test_public_names_are_sorted_and_complete() -> None:
    """Every public name is importable, listed once, in order."""
    assert cosyclient.__all__ == sorted(cosyclient.__all__)
    names: dict[str, object] = {}
    exec("from cosyclient import *", names)
    assert set(cosyclient.__all__) <= set(names)


def test_every_public_function_has_a_docstring() -> None:
    """Whatever a user can call has a docstring."""
    missing = []
    for name in FILES:
        tree = _tree(name)
        if not ast.get_docstring(tree):
            missing.append(name)
        for node in tree.body:
            members = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else []
            missing += [
                f"{name}: {item.name}"
                for item in (node, *members)
                if isinstance(item, (ast.FunctionDef, ast.ClassDef))
                and not item.name.startswith("_")
                and not ast.get_docstring(item)
            ]
    assert not missing

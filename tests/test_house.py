"""The walls of the house, read from the imports: who may know whom, and where threads, waits and packages may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import cosyclient

ROOT = Path(cosyclient.__file__).parent
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

LEVELS = {
    0: {"additions", "errors", "bounds", "clock", "models", "audio", "files", "quoting", "voices", "wire"},
    1: {
        "config",
        "environment",
        "proxy",
        "settings",
        "sizing",
        "events",
        "batch",
        "waiters",
        "window",
        "cubic",
        "rates",
        "refusals",
        "expiry",
        "workers",
    },
    2: {"policies", "protocols", "transports"},
    3: {
        "advice",
        "arrivals",
        "dispatcher",
        "call",
        "batcher",
        "coalescer",
        "concurrency",
        "conversing",
        "hedger",
        "outage",
        "persisting",
        "asking",
        "places",
        "reception",
        "endpoints",
        "stats",
        "streaming",
    },
    4: {"__init__", "client", "core", "house"},
    5: {"cli", "emulator", "testing", "__main__"},
}
LEVEL_OF = {room: level for level, rooms in LEVELS.items() for room in rooms}

# Each third-party package stays behind one wall.
PACKAGES: dict[str, str | tuple[str, ...]] = {
    "httpx": "transports/",
    "urllib3": "transports/",
    "pybreaker": "policies/breaker.py",
    "backoff": "policies/retry.py",
    "pybase64": "protocols/coding.py",
    "websockets": "transports/",
    "tqdm": "cli/",
    "starlette": "emulator/",
    "uvicorn": "emulator/",
    "numpy": ("emulator/", "audio/pcm.py", "protocols/waveforms.py"),
    "soundfile": "emulator/",
    "soxr": ("emulator/", "protocols/waveforms.py"),
    "grpc": ("emulator/", "transports/"),
    "google": "emulator/",
    "espeakng_loader": "emulator/",
    "pytest": "emulator/pytest_plugin.py",
}
# The language and the platform; everything else must be named above.
THREADS = {
    "workers.py",
    "expiry.py",
    "conversing.py",
    "transports/resolving.py",
    "transports/grpc_reply.py",
    "emulator/",
}
WAITS = {
    "transports/grpc_reply.py",
    "batcher.py",
    "expiry.py",
    "waiters.py",
    "workers.py",
    "policies/bulkhead.py",
    "transports/pool.py",
    "transports/resolving.py",
    "clock.py",
    "testing.py",
    "emulator/",
}


def _imports(name: str, *, runtime_only: bool = False) -> list[str]:
    """Return the modules *name* imports; with *runtime_only*, those under TYPE_CHECKING are left out."""
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    hidden: set[ast.AST] = set()
    if runtime_only:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                hidden.update(ast.walk(node))
    found = []
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative imports hide the walls"
            module = node.module or ""
            # `from cosyclient import audio` means the room audio, `from cosyclient import CosyClient` the front door.
            found += [f"{module}.{alias.name}" if module == "cosyclient" else module for alias in node.names]
    return found


def _room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LEVEL_OF else "__init__"


def _own_room(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


@pytest.mark.parametrize("name", FILES)
def test_every_file_has_a_room(name: str) -> None:
    """A new file must be given a level, or it belongs somewhere else."""
    assert _own_room(name) in LEVEL_OF


@pytest.mark.parametrize("name", FILES)
def test_nobody_imports_from_above(name: str) -> None:
    """A room knows its own level and those below, never one above, not even for its types."""
    own = _own_room(name)
    for module in _imports(name):
        if module.split(".")[0] != "cosyclient":
            continue
        room = _room(module)
        assert LEVEL_OF[room] <= LEVEL_OF[own], f"{name} imports {module} from a level above its own"


@pytest.mark.parametrize("name", [name for name in FILES if _own_room(name) in LEVELS[2]])
def test_level_two_rooms_never_see_each_other(name: str) -> None:
    """A policy, a protocol and a transport know only their own base and the ground floor."""
    for module in _imports(name):
        room = _room(module) if module.startswith("cosyclient") else ""
        assert room not in LEVELS[2] - {_own_room(name)}, f"{name} imports {module}"


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("policies/") and "__init__" not in name])
def test_policies_never_see_each_other(name: str) -> None:
    """A policy imports no other policy, but for the parts of its own package; the call composes them."""
    own = "cosyclient." + "/".join(name.split("/")[:2]).removesuffix(".py").replace("/", ".")
    for module in _imports(name):
        if module.startswith("cosyclient.policies."):
            assert module == "cosyclient.policies.base" or f"{module}.".startswith(f"{own}.")


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("emulator/")])
def test_the_emulator_shares_no_code_with_what_it_tests(name: str) -> None:
    """A mistake made twice in one place would pass its own test."""
    for module in _imports(name):
        assert not module.startswith("cosyclient") or module.startswith("cosyclient.emulator"), module


@pytest.mark.parametrize("name", FILES)
def test_each_package_stays_behind_its_wall(name: str) -> None:
    """A third-party package is imported in one place, so that it can be replaced in one place."""
    for module in _imports(name, runtime_only=True):
        wall = PACKAGES.get(module.split(".")[0])
        assert wall is None or name.startswith(wall), f"{name} imports {module}"


@pytest.mark.parametrize("name", FILES)
def test_the_ground_floor_stands_on_the_standard_library(name: str) -> None:
    """Levels 0 and 1 import nothing third-party at all."""
    if LEVEL_OF[_own_room(name)] > 1:
        return
    import sys

    for module in _imports(name):
        top = module.split(".")[0]
        assert top == "cosyclient" or top in sys.stdlib_module_names, f"{name} imports {module}"


def _calls(name: str) -> set[str]:
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("name", FILES)
def test_threads_start_only_where_they_are_counted(name: str) -> None:
    """Whoever may start a thread also closes it."""
    starters = {"threading.Thread", "Thread", "ThreadPoolExecutor", "threading.Timer", "Timer"}
    starters |= {"_thread.start_new_thread", "start_thread"}
    if not any(name.startswith(place) for place in THREADS):
        assert not _calls(name) & starters, name


@pytest.mark.parametrize("name", FILES)
def test_waiting_happens_only_in_the_waiting_rooms(name: str) -> None:
    """`time.sleep` nowhere (the emulator's adversary aside), conditions and events only where deadlines are kept."""
    if any(name.startswith(place) for place in WAITS):
        return
    for call in _calls(name):
        assert call != "time.sleep", f"{name} calls {call}"
        # A place's wait, in the sending order, is arithmetic; a waiter's is the one wait a caller is there for.
        assert not call.endswith(".wait") or call in ("place.wait", "waiter.wait"), f"{name} calls {call}"


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("emulator/")])
def test_nobody_waits_where_an_interrupt_would_leave_a_lock_held(name: str) -> None:
    """Conditions, events and semaphores are entered in Python; see "How this library waits and takes" in clock.py."""
    entered = {"Condition", "Event", "Semaphore", "BoundedSemaphore", "Barrier", "Queue", "LifoQueue", "PriorityQueue"}
    # A future's own condition is made anew where it may be held for ever.
    allowed = {"threading.Condition"} if name == "waiters.py" else set()
    made = {call for call in _calls(name) if call.rpartition(".")[0] in ("threading", "queue")}
    assert not {call for call in made - allowed if call.rpartition(".")[2] in entered}, name
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert not named & (entered - {"Event"}), name  # events that are told, not waited for, go by that name too


def test_the_front_door_is_sorted_and_complete() -> None:
    """Every public name is importable, listed once, in order."""
    assert cosyclient.__all__ == sorted(cosyclient.__all__)
    assert all(hasattr(cosyclient, name) for name in cosyclient.__all__)


def test_every_public_function_has_a_docstring() -> None:
    """What a user can call says in one sentence what it does for him."""
    missing = []
    for name in FILES:
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
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

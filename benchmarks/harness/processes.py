"""Run a module of the benchmarks in a fresh process and read its figures, one line of JSON each way.

A process may also send a mark while it runs: it prints a line, and waits for a line in return. So its parent can read
a service's counters as the measured part begins and ends, and no request falls between the two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_MARK: Final = "mark\n"
_ERROR_CHARACTERS: Final = 4000
_HIDING: Final = """
import runpy, sys
sys.modules.update(dict.fromkeys(sys.argv[2:]))
runpy.run_module(sys.argv[1], run_name="__main__")
"""
"""Run the module named first; the modules named after it cannot be imported."""


class ProcessFailed(RuntimeError):
    """Report that a process ended without figures."""


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a process that imports what this one does, with *more* added."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path), **more}


def run_module(
    module: str,
    parameters: Mapping[str, Any],
    *,
    on_mark: Callable[[], object] | None = None,
    more_environment: Mapping[str, str] | None = None,
    without: Sequence[str] = (),
) -> dict[str, Any]:
    """Run *module* with *parameters* on its stdin, and return the figures it prints last.

    *on_mark* is called whenever the process calls `send_mark`. It cannot import the modules *without*. Raises
    `ProcessFailed`, with the end of what the process wrote to stderr, where it fails. What a process that succeeds
    writes there is passed on.
    """
    last = ""
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            [sys.executable, "-c", _HIDING, module, *without] if without else [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(**(more_environment or {})),
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                print(json.dumps(parameters), file=process.stdin, flush=True)
                for line in process.stdout:
                    if line == _MARK and on_mark is not None:
                        on_mark()
                        print(file=process.stdin, flush=True)
                    else:
                        last = line
            except BaseException:
                process.kill()
                raise
        errors.seek(0)
        written = errors.read()
    if process.returncode or not last:
        raise ProcessFailed(f"the process of {module} ended with {process.returncode}:\n{written[-_ERROR_CHARACTERS:]}")
    sys.stderr.write(written)
    figures: dict[str, Any] = json.loads(last)
    return figures


def read_parameters() -> dict[str, Any]:
    """Read, in the process that `run_module` started, what it was given."""
    parameters: dict[str, Any] = json.loads(sys.stdin.readline())
    return parameters


def send_mark() -> None:
    """Call, from the process that `run_module` started, its ``on_mark``, and wait until that has returned."""
    print(_MARK, end="", flush=True)
    sys.stdin.readline()

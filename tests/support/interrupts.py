"""Interrupts at every place where the interpreter would raise one: the test chooses the instruction.

CPython looks for signals and asynchronous exceptions when a function is entered or a generator resumed, after a call
of something written in C, and on every jump back (ceval.c: RESUME, CALL, JUMP_BACKWARD). An `Interrupter`
counts these places while an action runs, and raises `KeyboardInterrupt` at one of them.
"""

from __future__ import annotations

import dis
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

# Not traced: code of the tests, and code where CPython itself loses an interrupt.
_FOREIGN = ("/pytest", "/_pytest", "/logging/", "/tests/", "/importlib", "<frozen")
_CALLS = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD"}


class Interrupter:
    """Trace the calling thread, count the places, and raise at the one called *at*."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.seen = 0
        self.where = ""
        self._frames = 0
        # The interpreter borrows the trace functions that it calls (sysmodule.c, `trace_trampoline`): under load
        # CPython 3.11.7 once crashed in one that was freed meanwhile, so all are kept until the action is over.
        self._tracers: list[Any] = [self._enter]

    def run(self, action: Callable[[], object]) -> object:
        """Run *action* under the trace; its exceptions pass."""
        sys.settrace(self._tracers[0])
        try:
            return action()
        finally:
            sys.settrace(None)
            del self._tracers[1:]

    def _enter(self, frame: FrameType, event: str, _: Any) -> Any:
        if event != "call" or any(part in frame.f_code.co_filename for part in _FOREIGN):
            return None
        if frame.f_code.co_name == "__del__":
            # An exception there is printed, not raised: nothing would be interrupted.
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self._place(frame)
        last = -1
        inside = 0
        checks = _checks_of(frame.f_code)

        def local(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal last, inside
            if event == "opcode":
                # A call of Python code was counted when its frame began; after C code the interpreter looks once.
                if last in checks and self._frames == inside:
                    last = -1
                    self._place(frame)
                last, inside = frame.f_lasti, self._frames
            return local

        self._frames += 1
        self._tracers.append(local)
        return local

    def _place(self, frame: FrameType) -> None:
        number = self.seen
        self.seen += 1
        if number == self.at:
            self.where = f"{frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno} {frame.f_code.co_qualname}"
            raise KeyboardInterrupt(self.where)


@cache
def _checks_of(code: CodeType) -> frozenset[int]:
    return frozenset(each.offset for each in dis.get_instructions(code) if each.opname in _CALLS)

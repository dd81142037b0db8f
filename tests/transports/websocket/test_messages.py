"""Messages assembled from frames."""

from __future__ import annotations

import tracemalloc

from websockets.frames import Frame, Opcode

from cosyclient.transports.websocket.messages import MessageAssembler


def test_fragments_take_the_memory_of_their_bytes() -> None:
    """However many of them are empty."""
    assembler = MessageAssembler()
    assembler.add(Frame(Opcode.TEXT, b"a", fin=False))
    tracemalloc.start()
    try:
        for _ in range(100_000):
            assembler.add(Frame(Opcode.CONT, b"", fin=False))
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()
    assert assembler
    assembler.add(Frame(Opcode.CONT, b"b"))
    assert list(assembler.messages) == ["ab"]
    assembler.messages.clear()
    assert not assembler

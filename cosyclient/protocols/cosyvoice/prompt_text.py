"""The mark that CosyVoice reads in its texts, and what CosyVoice3 was trained with before it.

CosyVoice ``example.py``; its front end writes neither since the end of 2025, and CosyVoice3 does not speak without.
"""

from __future__ import annotations

from typing import Final

END_OF_PROMPT: Final = "<|endofprompt|>"
"""What separates an instruction, or a system's part, from the text."""
COSYVOICE3: Final = "cosyvoice3"
"""The dialect of servers that leave both to the client."""
_SYSTEM: Final = "You are a helpful assistant."


def with_system_prompt(text: str) -> str:
    """Return *text* behind what CosyVoice3 wants before a transcript, or before a text spoken without one."""
    return text if END_OF_PROMPT in text else f"{_SYSTEM}{END_OF_PROMPT}{text}"


def instruct_prompt(instruct: str, *, system: bool) -> str:
    """Return *instruct* with the mark at its end by which every model tells it from the text.

    *system* puts before it what CosyVoice3 was trained with.
    """
    if END_OF_PROMPT in instruct:
        return instruct
    return f"{_SYSTEM} {instruct}{END_OF_PROMPT}" if system else f"{instruct}{END_OF_PROMPT}"


def advice(family: str) -> str:
    """Return what to do where CosyVoice3 is spoken to in *family* without its marks."""
    return f"if it serves CosyVoice3, use protocol='{family}:{COSYVOICE3}', which writes the marks that model wants"

"""The mark that ends a prompt within CosyVoice's texts, and the system prompt that CosyVoice3 needs before it.

CosyVoice ``example.py``; its front end has written neither since the end of 2025, and CosyVoice3 fails without them.
"""

from __future__ import annotations

from typing import Final

END_OF_PROMPT: Final = "<|endofprompt|>"
"""Separates an instruction or the system prompt from the text."""
COSYVOICE3: Final = "cosyvoice3"
"""The dialect for servers that leave both to the client."""
_SYSTEM: Final = "You are a helpful assistant."


def with_system_prompt(text: str) -> str:
    """Return *text* after the system prompt, as CosyVoice3 needs a transcript, or a text without one."""
    return text if END_OF_PROMPT in text else f"{_SYSTEM}{END_OF_PROMPT}{text}"


def instruct_prompt(instruct: str, *, system: bool) -> str:
    """Return *instruct* with the mark at its end, by which every model separates it from the text.

    *system* puts the system prompt before it, as CosyVoice3 needs it.
    """
    if END_OF_PROMPT in instruct:
        return instruct
    return f"{_SYSTEM} {instruct}{END_OF_PROMPT}" if system else f"{instruct}{END_OF_PROMPT}"


def advice(family: str) -> str:
    """Return what to do if CosyVoice3 is served and *family* is used without its dialect."""
    return f"if it serves CosyVoice3, use protocol='{family}:{COSYVOICE3}', which writes the marks that model wants"

"""The rules of vLLM-Omni for Fun-CosyVoice3 requests, with its messages, over HTTP and WebSocket alike."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container

NO_VOICE = "default"
"""The name in its list of voices that is no voice."""
_SCHEMES = ("http://", "https://", "data:", "file://")
_SHORTEST, _LONGEST = 1.0, 30.0


def error_in(text: str, voice: str, audio: Any, transcript: Any, uploaded: Container[str]) -> str:
    """Return the message with which its adapter refuses a *text*, or "".

    *voice* is a name or empty, *audio* the reference as it was sent and *transcript* what is spoken in it.
    """
    known = voice.lower() in uploaded
    if voice and audio is None and not known:
        return (
            f"Unknown voice '{voice}'. CosyVoice3 has no built-in speakers. Upload a voice first via "
            "POST /v1/audio/voices, or use ref_audio + ref_text."
        )
    if not text.strip():
        return "Input text cannot be empty"
    if audio is None:
        return "" if known else "CosyVoice3 requires 'ref_audio' (reference audio for voice cloning)"
    if not isinstance(audio, str) or not audio.startswith(_SCHEMES):
        return "ref_audio must be a URL (http/https), base64 data URL (data:...), or file URI (file://...)"
    if not isinstance(transcript, str) or not transcript.strip():
        return "CosyVoice3 requires 'ref_text' (transcript of the reference audio)"
    return error_in_recording(recording_of(audio))


def error_in_recording(data: bytes) -> str:
    """Return the message with which it refuses a fetched recording, or ""."""
    if data[:4] != b"RIFF" or len(data) < 44:
        return "Error opening <_io.BytesIO object>: Format not recognised."
    seconds = (len(data) - 44) / max(1, int.from_bytes(data[28:32], "little"))
    if seconds < _SHORTEST:
        return f"Reference audio too short ({seconds:.1f}s). At least {_SHORTEST:.0f}s of clear speech is required."
    if seconds > _LONGEST:
        return f"Reference audio too long ({seconds:.1f}s). Maximum {_LONGEST:.0f}s supported — use a shorter clip."
    return ""


def recording_of(source: str) -> bytes:
    """Return the recording in a ``data:`` URL; of any other URL, empty bytes."""
    coded = source.partition(";base64,")[2] if source.startswith("data:") else ""
    try:
        return base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError):
        return b""

"""The models and voices of the service, and how the engines render them."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_MODEL = "cosyvoice2-0.5b"
MODELS = (DEFAULT_MODEL, "cosyvoice-300m", "cosyvoice2", "cosyvoice3", "fun-cosyvoice3-0.5b")


@dataclass(frozen=True)
class Voice:
    """Describe one speaker: the tone's pitch, and the languages and timbre eSpeak NG shall use."""

    pitch: int
    """Hertz, a multiple of 10, so that a block of 0.1 s repeats without a click."""
    timbre: str = ""
    han: str = "cmn"
    latin: str = "en-us"


# The names of the speakers shipped with CosyVoice-300M-SFT, and one for requests that name none.
VOICES = {
    "default": Voice(220),
    "中文女": Voice(230, "+f2"),
    "中文男": Voice(120, "+m3"),
    "英文女": Voice(240, "+f3"),
    "英文男": Voice(130, "+m1", latin="en"),
    "日语男": Voice(140, "+m2", han="ja"),
    "粤语女": Voice(250, "+f4", han="yue"),
    "韩语女": Voice(260, "+f5"),
}

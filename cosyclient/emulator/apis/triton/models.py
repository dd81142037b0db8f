"""CosyVoice's models as Triton serves them: tensors in, float samples out, with their caps and their caches."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cosyclient.emulator.apis.base import SpeechRequest
from cosyclient.emulator.core.problems import Problem

if TYPE_CHECKING:
    from cosyclient.emulator.core.service import Service

MODELS = ("cosyvoice2", "cosyvoice2_dit", "cosyvoice3")
RATE = 24000
DECOUPLED_OVER_HTTP = "HTTP end point doesn't support models with decoupled transaction policy"
DECOUPLED_UNARY = "ModelInfer RPC doesn't support models with decoupled transaction policy"
_STREAMS_ONLY = "cosyvoice2_dit"
_HAS_SPEAKER = "cosyvoice2"
_TOKENS_PER_SECOND = 25
TYPES = {"reference_wav": "FP32", "reference_wav_len": "INT32", "reference_text": "BYTES", "target_text": "BYTES"}


@dataclass(frozen=True)
class Input:
    """One input tensor: raw bytes, or the values from JSON or protobuf."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | None = None
    values: Any = None


class TritonModels:
    """Read the requests for the three models; one instance per service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        # cosyvoice3 and cosyvoice2_dit cache recordings by transcript alone, without a bound.
        self._speakers: dict[tuple[str, str], bytes] = {}
        service.on_reset.append(self._speakers.clear)

    def is_decoupled(self, model: str) -> bool:
        """Return whether *model* is built to stream; raises the Problem of an unknown one."""
        self.check(model)
        return model == _STREAMS_ONLY or self._service.settings.decoupled

    def check(self, model: str) -> None:
        """Raise the Problem of an unknown model."""
        if model not in MODELS:
            raise Problem("not_found", f"Request for unknown model: '{model}' is not found")

    def read_request(self, model: str, inputs: list[Input], *, api: str, stream: bool) -> SpeechRequest:
        """Return the speech request in *inputs* for *model*; raises the Problem of invalid ones."""
        given = {each.name: each for each in inputs}
        if unknown := sorted(given.keys() - TYPES.keys()):
            raise Problem("validation_failed", f"unexpected inference input '{unknown[0]}' for model '{model}'")
        if "target_text" not in given:
            raise Problem("validation_failed", f"expected input 'target_text' for model '{model}'")
        for name, each in given.items():
            if each.datatype != TYPES[name]:
                raise Problem(
                    "validation_failed",
                    f"inference input '{name}' data-type is '{each.datatype}', but model '{model}' "
                    f"expects '{TYPES[name]}'",
                )
        prompt, transcript, voice = self._speaker(model, given)
        return SpeechRequest(
            api=api,
            text=_text(given["target_text"]),
            mode="zero_shot" if prompt is not None else "sft",
            voice=voice,
            prompt=prompt,
            prompt_text=transcript,
            model=model,
            sample_rate=RATE,
            stream=stream,
        )

    def floats(self, samples: bytes) -> bytes:
        """Return 16-bit samples as float samples."""
        return (np.frombuffer(samples, "<i2").astype("<f4") / 32768).tobytes()

    def cap(self, size: int) -> int:
        """Return how many of *size* bytes of 16-bit samples the model makes: it stops after so many tokens."""
        return min(size, self._service.settings.speech_tokens * RATE // _TOKENS_PER_SECOND * 2)

    def _speaker(self, model: str, given: dict[str, Input]) -> tuple[bytes | None, str, str]:
        if "reference_wav" not in given:
            if model != _HAS_SPEAKER:
                # The error that the models' own code raises for a missing input.
                raise Problem("internal", "'NoneType' object has no attribute 'as_numpy'")
            return None, "", "001"
        wav = given["reference_wav"]
        samples = _floats(wav)
        if len(wav.shape) != 2 or wav.shape[0] != 1 or wav.shape[1] != samples.size:
            raise Problem("validation_failed", f"unexpected shape for input 'reference_wav' for model '{model}'")
        length = _number(given["reference_wav_len"]) if "reference_wav_len" in given else samples.size
        prompt = np.rint(samples[:length] * 32768).astype("<i2").tobytes()
        transcript = _text(given["reference_text"]) if "reference_text" in given else ""
        if model != _HAS_SPEAKER:
            prompt = self._speakers.setdefault((model, transcript), prompt)
        return prompt, transcript, ""


def _floats(tensor: Input) -> Any:
    if tensor.raw is None:
        return np.asarray(tensor.values, "<f4").reshape(-1)
    if len(tensor.raw) % 4:
        raise Problem("validation_failed", f"unexpected size of input '{tensor.name}'")
    return np.frombuffer(tensor.raw, "<f4")


def _number(tensor: Input) -> int:
    if tensor.raw is None:
        return int(np.asarray(tensor.values).reshape(-1)[0])
    number: int = struct.unpack("<i", tensor.raw)[0]
    return number


def _text(tensor: Input) -> str:
    if tensor.raw is None:
        value = tensor.values
        while isinstance(value, list) and value:
            value = value[0]
        return value.decode() if isinstance(value, bytes) else str(value)
    # u32 length, then the bytes; one element is all there is.
    if len(tensor.raw) < 4 or len(tensor.raw) != 4 + struct.unpack_from("<I", tensor.raw)[0]:
        raise Problem("validation_failed", f"unexpected size of input '{tensor.name}'")
    return tensor.raw[4:].decode()

"""Read a speech request as one of the OpenAI-compatible servers does: what each takes, ignores and refuses."""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from cosyclient.emulator.apis.base import SpeechRequest, segments
from cosyclient.emulator.apis.batch.request import SAMPLE_RATES
from cosyclient.emulator.apis.cosyvoice.models import END_OF_PROMPT
from cosyclient.emulator.apis.forms import Invalid, fault
from cosyclient.emulator.apis.vllm_omni.rules import NO_VOICE, error_in
from cosyclient.emulator.core.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosyclient.emulator.apis.openai.servers import Server

_REAL_FORMATS: Final = ("wav", "pcm", "mp3", "opus", "flac", "aac")
_SHORTEST, _LONGEST = 1.0, 30.0
Delivery = Literal["", "raw", "events", "chunks"]


@dataclass(frozen=True, kw_only=True)
class OpenAIRequest:
    """A speech request, and how its audio is delivered: whole (""), or streamed.

    What is streamed is rendered as samples; ``wav`` puts a WAV header before them.
    """

    speech: SpeechRequest
    delivery: Delivery = ""
    wav: bool = False
    words: bool = False


class BadRequest(Problem):
    """Refuse a request that breaks a rule of the server, naming the field."""

    def __init__(self, param: str, detail: str, *, status: int = 400, code: str = "validation_failed") -> None:
        super().__init__(code, detail, status=status)
        self.param = param


class Malformed(BadRequest):
    """Refuse a request whose form is wrong; where a batch is checked as a whole, the whole batch."""


class BrokenOff(BadRequest):
    """Fail after the head of the reply was sent, so without a message."""


class WorkerError(Problem):
    """Fail as Xinference does when its worker raises: with status 500, whatever the cause."""

    def __init__(self, detail: str) -> None:
        super().__init__("internal", f"[address=127.0.0.1:41817, pid=4711] {detail}")


@dataclass(frozen=True, kw_only=True)
class RequestReader:
    """Read the requests of one *server*.

    *old* chooses the revision before ``stream`` changed its meaning; *rate* is the sample rate of the model.
    """

    server: Server
    rate: int
    old: bool
    aligner: bool
    uploaded: Mapping[str, Any]

    def read(
        self, document: Mapping[str, Any], files: Mapping[str, bytes] | None = None, *, item: bool = False
    ) -> OpenAIRequest:
        """Return the request in *document*, alone or as an *item* of a batch; raises the server's Problem."""
        server = self.server
        if server.strict and (unknown := sorted(document.keys() - server.takes)):
            raise BadRequest(unknown[0], f"Unknown parameter: '{unknown[0]}'.")
        given = {name: value for name, value in document.items() if name in server.takes and value is not None}
        self._check_required(given)
        model = self._model(given)
        if server.envelope == "vllm":
            given = self._as_vllm(given, item=item)
        text = self._text(given)
        instruct = given.get("instructions", "")
        if server.marks and END_OF_PROMPT in text:
            instruct, _, text = text.partition(END_OF_PROMPT)
        extras = self._extras(given)
        prompt, prompt_text = self._recording(given, files or {}, extras)
        voice = self._voice(given, prompt)
        instruct = extras.get("instruct_text", instruct)
        format = self._format(given)
        speed = self._number(given, "speed", *server.speeds, default=1.0)
        delivery, streamed = self._delivery(given, format, speed)
        if server.envelope == "xinference" and not delivery and not segments(text):
            raise WorkerError("torch.cat(): expected a non-empty list of Tensors")
        return OpenAIRequest(
            speech=SpeechRequest(
                api="openai",
                mode=_mode(prompt, prompt_text, instruct),
                text=text,
                voice=voice,
                prompt=prompt,
                prompt_text=prompt_text,
                instruct=instruct,
                model=model,
                format=streamed,
                sample_rate=self._rate(given, format),
                speed=1.0 if server.envelope == "xinference" and (delivery or self.old) else speed,
                seed=extras.get("seed", self._seed(given)),
                stream=bool(delivery),
            ),
            delivery=delivery,
            wav=bool(delivery) and format == "wav",
            words=self._words(given, delivery),
        )

    def _check_required(self, given: Mapping[str, Any]) -> None:
        also = {"voice": "speaker"}
        missing = [name for name in self.server.needs if name not in given and also.get(name) not in given]
        if self.server.envelope in ("fastapi", "vox-box", "xinference"):
            if missing:
                raise Invalid([fault("missing", name, "Field required") for name in missing])
            if not isinstance(given["input"], str):
                raise Invalid([fault("string_type", "input", "Input should be a valid string", given["input"])])
        for name in missing:
            raise Malformed(name, f"{name} is required")

    def _as_vllm(self, given: dict[str, Any], *, item: bool) -> dict[str, Any]:
        """Return the fields that vLLM-Omni's adapter of CosyVoice3 reads; raises its refusals."""
        if not isinstance(given["input"], str):
            raise Malformed("input", "Input should be a valid string")
        self._format(given)
        self._number(given, "speed", *self.server.speeds, default=1.0)
        listed = given.pop("references", None)
        if listed is not None:
            if not isinstance(listed, list) or len(listed) != 1 or not isinstance(listed[0], dict):
                raise Malformed("references", "'references' only supports a single reference")
            given |= {"ref_audio": listed[0].get("audio_path"), "ref_text": listed[0].get("text")}
        voice = given.get("voice", given.get("speaker", ""))
        voice = voice.get("id") if isinstance(voice, dict) else voice
        if not isinstance(voice, str):
            raise Malformed("voice", "Input should be a valid string")
        # In a single request the listed name means no voice; in a batch it is unknown.
        if voice.lower() == NO_VOICE and not item:
            voice = ""
        if "sample_rate" in given and not self.old:
            raise BadRequest("sample_rate", "sample_rate is not supported by the current TTS model")
        given.pop("sample_rate", None)
        if wrong := error_in(given["input"], voice, given.get("ref_audio"), given.get("ref_text"), self.uploaded):
            raise BadRequest("", wrong)
        return {**given, "voice": voice}

    def _text(self, given: Mapping[str, Any]) -> str:
        text = given["input"]
        # These check nothing: a text without speech gives audio without speech.
        if self.server.envelope in ("vox-box", "xinference"):
            return str(text)
        if not isinstance(text, str) or not text.strip():
            raise BadRequest("input", "input must be a non-empty string")
        if len(text) > self.server.longest:
            raise BadRequest("input", f"input must be at most {self.server.longest} characters")
        return text

    def _extras(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that Xinference takes inside a JSON string."""
        try:
            extras = json.loads(given.get("kwargs", "{}"))
        except (TypeError, ValueError) as error:
            raise Problem("internal", str(error)) from error
        return extras if isinstance(extras, dict) else {}

    def _model(self, given: Mapping[str, Any]) -> str:
        model = given.get("model", "")
        if model and self.server.models is not None and model not in self.server.models:
            if self.server.envelope == "xinference":
                raise Problem("unknown_model", f"Model not found in the model list, uid: {model}")
            raise BadRequest("model", f"The model `{model}` does not exist.", status=404, code="unknown_model")
        return str(model)

    def _voice(self, given: Mapping[str, Any], prompt: bytes | None) -> str:
        server = self.server
        voice = given.get("voice", given.get("speaker", ""))
        if isinstance(voice, dict):
            voice = voice.get("id", "")
        if not isinstance(voice, str):
            raise BadRequest("voice", "voice must be a string")
        known = server.uploads and voice.lower() in self.uploaded
        if server.reference and prompt is None and not known:
            raise BadRequest("ref_audio", "exactly one speech reference is required")
        preset = server.voices is None or voice in server.voices or not voice or prompt is not None
        if not (known or preset or server.reference):
            raise self._unknown(voice)
        if not voice and prompt is None and server.envelope == "siliconflow":
            raise BadRequest("voice", "voice or references is required")
        return voice

    def _unknown(self, voice: str) -> Problem:
        """Return this server's Problem of an unknown *voice*."""
        match self.server.envelope:
            case "xinference":
                known = [name for name in self.server.voices or () if name]
                return WorkerError(f"Invalid voice {voice}, CosyVoice available speakers: {known}")
            case "vox-box":
                return Problem("internal", f"Failed to generate speech, Voice {voice} not supported")
        return (BrokenOff if self.server.breaks else BadRequest)("voice", f"Voice '{voice}' not found.")

    def _recording(
        self, given: Mapping[str, Any], files: Mapping[str, bytes], extras: Mapping[str, Any]
    ) -> tuple[bytes | None, str]:
        """Return the recording that came with the request, and its transcript."""
        if "prompt_speech" in self.server.takes:
            prompt = files.get("prompt_speech")
            self._check_mode(given.get("model", ""), prompt, extras)
            if prompt is not None:
                return prompt, extras.get("prompt_text", "")
        source, text = given.get("ref_audio"), given.get("ref_text", "")
        listed = given.get("references")
        if source is None and isinstance(listed, list) and listed and isinstance(listed[0], dict):
            source = listed[0].get("audio", listed[0].get("audio_path"))
            text = listed[0].get("text", "")
        if source is None:
            return None, ""
        if self.server.transcript and not text:
            raise BadRequest("ref_text", "a recording needs its transcript")
        if self.server.envelope == "sglang" and text and given.get("instructions"):
            raise BadRequest("instructions", "instructions cannot be combined with a reference transcript")
        return _decoded(source), text

    def _check_mode(self, model: str, prompt: bytes | None, extras: Mapping[str, Any]) -> None:
        """Raise the error of an Xinference model for a mode that it lacks, which its name tells."""
        kind = next((kind for kind in ("SFT", "Instruct") if kind in model), "")
        given = {"prompt_speech": prompt, "prompt_text": extras.get("prompt_text")}
        if kind == "SFT":
            given["instruct_text"] = extras.get("instruct_text")
        for name, value in given.items():
            if kind and value is not None:
                raise WorkerError(f"CosyVoice {kind} model does not support {name}")
        if model == "CosyVoice-300M" and prompt is None:
            raise WorkerError("CosyVoice model expect a prompt_speech")

    def _format(self, given: Mapping[str, Any]) -> str:
        format = given.get("response_format", self.server.default_format)
        if format not in self.server.formats:
            shown = ", ".join(self.server.formats)
            extra = " (the emulator encodes no more)" if format in _REAL_FORMATS else ""
            if self.server.envelope == "vox-box":
                raise BadRequest("response_format", f"Unsupported audio format: {format}")
            raise Malformed("response_format", f"response_format must be one of: {shown}{extra}")
        return str(format)

    def _rate(self, given: Mapping[str, Any], format: str) -> int:
        server = self.server
        native = server.default_rates.get(format, self.rate)
        rate = given.get("sample_rate", native)
        if server.envelope in ("fastapi", "xinference"):
            return native  # it is read and ignored
        if rate not in server.rates.get(format, SAMPLE_RATES):
            raise BadRequest("sample_rate", f"sample_rate {rate!r} is not supported for {format}")
        return int(rate)

    def _number(self, given: Mapping[str, Any], name: str, low: float, high: float, *, default: float) -> float:
        value = given.get(name, default)
        if isinstance(value, str) and self.server.envelope == "xinference":
            # The fields of a form are strings; pydantic converts them.
            try:
                value = float(value)
            except ValueError:
                message = "Input should be a valid number, unable to parse string as a number"
                raise Invalid([fault("float_parsing", name, message, value)]) from None
        fine = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not fine or not low <= value <= high:
            if self.server.owner == "async-cosyvoice":
                message = f"Input should be greater than or equal to {low:g} and less than or equal to {high:g}"
                raise Invalid([fault("range", name, message, value)])
            raise Malformed(name, f"{name} must be between {low:g} and {high:g}")
        return float(value)

    def _seed(self, given: Mapping[str, Any]) -> int | None:
        seed = given.get("seed")
        if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
            raise Malformed("seed", "seed must be an integer")
        if seed is not None and seed < 0 and self.server.envelope == "sglang":
            raise BadRequest("seed", "seed must be greater than or equal to 0")
        return seed

    def _delivery(self, given: Mapping[str, Any], format: str, speed: float) -> tuple[Delivery, str]:
        """Return how the audio is delivered, and in which format it is rendered."""
        stream = given.get("stream", self.server.always_streams) in (True, "true", "True")
        wanted, kind = given.get("stream_format"), self.server.stream
        if wanted not in (None, "audio", "sse"):
            raise BadRequest("stream_format", "stream_format must be 'audio' or 'sse'")
        delivery: Delivery = ""
        if kind == "vllm":
            if self.old:
                delivery = "raw" if stream else ""
            else:
                delivery = "raw" if wanted == "audio" else "events" if stream or wanted == "sse" else ""
            if delivery and format not in ("pcm", "wav"):
                raise BadRequest(
                    "response_format", f"Streaming requires response_format='pcm' or 'wav'. Got '{format}'."
                )
            if delivery and speed != 1.0:
                raise BadRequest("speed", "Streaming is not supported with speed adjustment.")
        elif kind == "sglang" and (stream or (wanted == "sse" and not self.old)):
            if format != "pcm":
                raise BadRequest("response_format", "stream=true requires response_format='pcm'")
            delivery = "chunks" if self.old else "events" if wanted == "sse" else "raw"
        elif kind == "openai" and wanted is not None:
            if wanted == "sse" and str(given.get("model", "")).startswith("tts-1"):
                raise BadRequest("stream_format", "stream_format 'sse' is not supported with this model")
            delivery = "events" if wanted == "sse" else "raw"
        elif (kind == "raw" and stream) or (kind == "sentences" and format == "pcm"):
            delivery = "raw"
        if delivery and format not in ("pcm", "wav"):
            # Compressed audio is rendered whole and sent in one piece.
            delivery = "events" if delivery == "events" else ""
            return delivery, format
        return delivery, "pcm" if delivery else format

    def _words(self, given: Mapping[str, Any], delivery: Delivery) -> bool:
        # The older revisions do not know the field.
        wanted = bool(given.get("word_timestamps", False)) and not self.old
        if wanted and not self.aligner:
            raise BadRequest(
                "word_timestamps", "word_timestamps requires the server to be launched with --forced-aligner"
            )
        if wanted and delivery:
            raise BadRequest("word_timestamps", "word_timestamps is not supported with streaming")
        return wanted


def _mode(prompt: bytes | None, prompt_text: str, instruct: str) -> str:
    """Return CosyVoice's name of the mode; a transcript takes precedence over an instruction, as in Xinference."""
    if prompt is None:
        return "instruct" if instruct else "sft"
    return "zero_shot" if prompt_text else "instruct2" if instruct else "cross_lingual"


def _decoded(source: object) -> bytes:
    """Return the recording that a ``data:`` URL, or bare base64, holds; other URLs are refused."""
    if not isinstance(source, str):
        raise BadRequest("ref_audio", "ref_audio must be a string")
    if source.startswith(("http://", "https://", "file://", "/")):
        raise BadRequest("ref_audio", "the emulator fetches nothing: give a data: URL")
    coded = source.partition(";base64,")[2] if source.startswith("data:") else source
    try:
        data = base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest("ref_audio", "ref_audio is not base64") from error
    if data[:4] != b"RIFF" or len(data) < 44:
        raise BadRequest("ref_audio", "ref_audio is no WAV file")
    seconds = (len(data) - 44) / max(1, int.from_bytes(data[28:32], "little"))
    if not _SHORTEST <= seconds <= _LONGEST:
        raise BadRequest("ref_audio", f"ref_audio lasts {seconds:.1f} s; 1 to 30 s are needed")
    return data

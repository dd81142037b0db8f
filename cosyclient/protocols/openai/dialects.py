"""The dialects of OpenAI-compatible servers as data: which fields each takes, and under which names.

Sources, as of late 2026: OpenAI's ``openapi.yaml``; vLLM-Omni 0.30 ``protocol/audio.py`` and ``serving_speech.py``;
SGLang-Omni 0.1.9 ``serve/speech_service.py``; Xinference 4.1 ``api/restful_api.py``; Vox-Box 0.0.21
``server/routers.py``; Triton-OpenAI-Speech ``tts_server.py``; async_cosyvoice ``runtime/fastapi/server.py``;
SiliconFlow's documentation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cosyclient.protocols.capabilities import Capabilities
from cosyclient.protocols.replies.error_rules import VLLM_OMNI, VOX_BOX, XINFERENCE
from cosyclient.protocols.replies.uploads import UploadForm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosyclient.protocols.replies.error_rules import MessageRules

_PLAIN: Final = {"model": "model", "voice": "voice", "format": "response_format", "speed": "speed"}
_STANDARD: Final = {**_PLAIN, "instruct": "instructions"}
_MODEL_RATES: Final = (22050, 24000)
"""The rates of CosyVoice-300M, and of CosyVoice2 and 3; where no reply states it, the rate asked for is assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Describe the requests that one server takes, and how to read its replies.

    ``fields`` maps our names to the server's: ``model``, ``voice``, ``format``, ``sample_rate``,
    ``speed``, ``instruct``, ``seed``, ``words``, and of a recorded voice ``recording`` (a data URL) and ``transcript``.
    """

    capabilities: Capabilities
    fields: Mapping[str, str]
    kwargs_fields: Mapping[str, str] = field(default_factory=dict)
    """Fields sent as JSON inside the one field ``kwargs``."""
    reference_fields: Mapping[str, str] = field(default_factory=dict)
    """Fields sent in the one element of the list ``references``."""
    file_part: str = ""
    """The part of a multipart form for a recording, where it is not a field; all other fields are parts then, too."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """Values sent if the caller gives none: the service requires them."""
    fixed_fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields sent with every request."""
    stream_fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields that ask for a stream, beside ``fixed_fields``."""
    instruct_in_text: bool = False
    """Whether an instruction is written before the text with `END_OF_PROMPT` between them."""
    instruct_or_transcript: bool = False
    """Whether a recorded voice follows an instruction only without its transcript."""
    batch_extra: frozenset[str] = frozenset()
    """The members of ``extra`` that the batch route accepts; a text with others is sent alone."""
    single_only: tuple[str, ...] = ()
    """Settings that the batch route does not accept; texts with them are sent alone."""
    path: str = "/v1/audio/speech"
    batch_path: str = ""
    voices_path: str = ""
    placeholder_voice: str = ""
    """A name in its list of voices that is no voice."""
    upload: UploadForm | None = None
    """How it takes a recording to store."""
    voice_template: str = ""
    """A format string for the full name of a voice that is given without a colon."""
    actual_rate: int | None = None
    """The rate of its samples, where their label is wrong."""
    message_rules: MessageRules = ()
    """What its error messages mean, where its statuses do not tell."""
    early_end_hint: str = ""
    """A cause, other than a fault of the server, why its reply may break off after its head."""

    def own_members(self) -> dict[str, str]:
        """Return the members it is sent, see `Capabilities.own_members`."""
        options = {"recording": "voice", "transcript": "voice"}
        named = (self.fields, self.kwargs_fields, self.reference_fields)
        return {
            **dict.fromkeys(("input", "items", "stream", "stream_format", *self.fixed_fields, *self.stream_fields), ""),
            **({"references": "voice"} if self.reference_fields else {}),
            **({self.file_part: "voice"} if self.file_part else {}),
            **{theirs: options.get(ours, ours) for names in named for ours, theirs in names.items()},
        }


_OMNI_VOICES: Final = "/v1/audio/voices"
_UPLOADS: Final = "/v1/uploads/audio/voice"

DIALECTS: Final[Mapping[str, Dialect]] = {
    # What all of them accept: the fields of the standard and no others, for OpenAI itself refuses those.
    "": Dialect(
        capabilities=Capabilities(
            stream=True,
            instruct=True,
            speeds=(0.5, 2.0),
            sample_rates=_MODEL_RATES,
            required=("model", "voice"),
            advice="recordings are sent in fields of each server's own; name its dialect, such as openai:vllm-omni",
        ),
        fields=_STANDARD,
        stream_fields={"stream_format": "audio"},
        # Any of these servers may answer.
        message_rules=(*VLLM_OMNI, *XINFERENCE, *VOX_BOX),
    ),
    "openai": Dialect(
        capabilities=Capabilities(
            stream=True, instruct=True, speeds=(0.25, 4.0), sample_rates=(24000,), required=("model", "voice")
        ),
        fields=_STANDARD,
        stream_fields={"stream_format": "audio"},
    ),
    # It serves Fun-CosyVoice3, which has no voices of its own, makes 24,000 Hz and gets no instructions. The field
    # ``sample_rate`` is for other models: since 0.30 it is refused, before it was ignored.
    "vllm-omni": Dialect(
        capabilities=Capabilities(
            batch=32,
            stream=True,
            stream_speed=False,
            stream_words=False,
            voices=frozenset({"named", "clone"}),
            seed=True,
            words=True,
            lists_voices=True,
            keeps_voices=True,
            speeds=(0.25, 4.0),
            sample_rates=(24000,),
            required=("voice",),
            advice="it needs the transcript of its recording: Voice.clone",
        ),
        fields={
            **_PLAIN,
            "seed": "seed",
            "words": "word_timestamps",
            "recording": "ref_audio",
            "transcript": "ref_text",
        },
        # Older versions know only the first and stream raw audio; newer ones send events if it comes alone.
        stream_fields={"stream": True, "stream_format": "audio"},
        single_only=("seed", "words"),
        batch_path="/v1/audio/speech/batch",
        batch_extra=frozenset({"language", "max_new_tokens", "task_type"}),
        voices_path=_OMNI_VOICES,
        placeholder_voice="default",
        message_rules=VLLM_OMNI,
        upload=UploadForm(
            path=_OMNI_VOICES,
            file_field="audio_sample",
            fields={"name": "name", "consent": "consent", "transcript": "ref_text"},
            required=("name", "consent"),
        ),
    ),
    # It serves Fun-CosyVoice3, too, which needs a recording; the voices that the server lists are for other models.
    "sglang-omni": Dialect(
        capabilities=Capabilities(
            batch=32,
            stream=True,
            voices=frozenset({"clone", "cross_lingual"}),
            instruct=True,
            seed=True,
            speeds=(0.25, 4.0),
            sample_rates=(24000,),
            required=("voice",),
            advice="make one with Voice.clone or Voice.cross_lingual",
        ),
        fields={**_STANDARD, "seed": "seed", "recording": "ref_audio", "transcript": "ref_text"},
        stream_fields={"stream": True, "stream_format": "audio"},
        instruct_or_transcript=True,
        batch_path="/v1/audio/speech/batch",
    ),
    # An empty voice is its first one. It ignores the speed of a stream, and before version 4 every speed.
    "xinference": Dialect(
        capabilities=Capabilities(
            stream=True,
            stream_speed=False,
            voices=frozenset({"named", "clone", "cross_lingual"}),
            instruct=True,
            seed=True,
            speeds=(0.25, 4.0),
            sample_rates=_MODEL_RATES,
            required=("model",),
        ),
        fields=_PLAIN,
        kwargs_fields={"transcript": "prompt_text", "instruct": "instruct_text", "seed": "seed"},
        file_part="prompt_speech",
        defaults={"voice": ""},
        stream_fields={"stream": True},
        instruct_or_transcript=True,
        message_rules=XINFERENCE,
    ),
    # It applies the speed twice, so none is sent. Its WAV files state 22,050 Hz for every model.
    "vox-box": Dialect(
        capabilities=Capabilities(lists_voices=True, sample_rates=_MODEL_RATES, required=("model", "voice")),
        fields={"model": "model", "voice": "voice", "format": "response_format"},
        voices_path="/v1/voices",
        message_rules=VOX_BOX,
    ),
    # Triton makes 24,000 Hz; the label is a number from the bridge's command line.
    "triton-bridge": Dialect(
        capabilities=Capabilities(
            stream=True,
            formats=("wav", "pcm"),
            sample_rates=(24000,),
            required=("model", "voice"),
            advice="its voices are files in the folder it was started with",
        ),
        fields={"model": "model", "voice": "voice", "format": "response_format"},
        path="/audio/speech",
        actual_rate=24000,
    ),
    "async-cosyvoice": Dialect(
        capabilities=Capabilities(
            stream=True,
            stream_speed=False,
            instruct=True,
            speeds=(0.25, 4.0),
            formats=("wav", "pcm", "mp3"),
            sample_rates=(24000,),
            required=("voice",),
            advice="upload its recording first, with upload_voice, and ask for what comes back",
            keeps_voices=True,
        ),
        fields=_PLAIN,
        upload=UploadForm(
            path=_UPLOADS,
            file_field="file",
            fields={"name": "customName", "transcript": "text"},
            required=("name", "transcript"),
            name_member="uri",
        ),
        stream_fields={"stream": True},
        instruct_in_text=True,
        early_end_hint="the server ends so where it does not know the voice",
    ),
    "siliconflow": Dialect(
        capabilities=Capabilities(
            stream=True,
            voices=frozenset({"named", "clone"}),
            instruct=True,
            lists_voices=True,
            keeps_voices=True,
            speeds=(0.25, 4.0),
            sample_rates=(8000, 16000, 24000, 44100),
            rates_by_format={"mp3": (44100,), "opus": (48000,)},
            required=("voice",),
            advice="it needs the transcript of its recording: Voice.clone",
        ),
        fields={**_PLAIN, "sample_rate": "sample_rate"},
        reference_fields={"recording": "audio", "transcript": "text"},
        defaults={"model": "FunAudioLLM/CosyVoice2-0.5B", "voice": ""},
        # It streams by default.
        fixed_fields={"stream": False},
        stream_fields={"stream": True},
        instruct_in_text=True,
        voice_template="{model}:{voice}",
        voices_path="/v1/audio/voice/list",
        upload=UploadForm(
            path=_UPLOADS,
            file_field="file",
            fields={"name": "customName", "transcript": "text", "model": "model"},
            required=("name", "transcript"),
            name_member="uri",
        ),
    ),
}
"""Every dialect by its name; the empty name is what all of them accept."""

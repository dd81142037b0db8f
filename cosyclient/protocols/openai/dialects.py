"""How the servers that are called OpenAI-compatible differ, as data: each takes other fields, or the same otherwise.

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
"""What CosyVoice-300M, and CosyVoice2 and 3, make; where nothing announces it, the rate asked for says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Say how one server wants to be spoken to, and what of its answers to make.

    ``fields`` maps what we call things to what it calls them: ``model``, ``voice``, ``format``, ``sample_rate``,
    ``speed``, ``instruct``, ``seed``, ``words``, and of a recorded voice ``recording`` (a data URL) and ``transcript``.
    """

    capabilities: Capabilities
    fields: Mapping[str, str]
    kwargs_fields: Mapping[str, str] = field(default_factory=dict)
    """Fields that travel as JSON inside the one field ``kwargs``."""
    reference_fields: Mapping[str, str] = field(default_factory=dict)
    """Fields that travel in the one element of the list ``references``."""
    file_part: str = ""
    """The part of a multipart form that a recording is, where it is not a field; all else are parts, too, then."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """What is sent where the caller leaves it to the service, which wants to be told all the same."""
    fixed_fields: Mapping[str, Any] = field(default_factory=dict)
    stream_fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields that ask for audio while it is made, beside ``always``."""
    instruct_in_text: bool = False
    """Whether an instruction is written before the text and `MARK` between them."""
    instruct_or_transcript: bool = False
    """Whether a recorded voice obeys an instruction only without its transcript."""
    batch_extra: frozenset[str] = frozenset()
    """The members of ``extra`` that the route for batches knows; a text with others travels alone."""
    single_only: tuple[str, ...] = ()
    """Settings the route for batches does not know: such texts travel one by one."""
    path: str = "/v1/audio/speech"
    batch_path: str = ""
    voices_path: str = ""
    placeholder_voice: str = ""
    """A name among those it lists that stands for none."""
    upload: UploadForm | None = None
    """How it takes a recording that it shall keep."""
    voice_template: str = ""
    """How the name of a voice without a colon is written out."""
    actual_rate: int | None = None
    """The rate its samples have whatever they are labelled."""
    message_rules: MessageRules = ()
    """What its errors mean, where its statuses do not say."""
    early_end_hint: str = ""
    """Why its reply may break off after its head, where that need not be its fault."""

    def own_members(self) -> dict[str, str]:
        """Return the members it sends, each with the option of ours that says it, or none."""
        said = {"recording": "voice", "transcript": "voice"}
        named = (self.fields, self.kwargs_fields, self.reference_fields)
        return {
            **dict.fromkeys(("input", "items", "stream", "stream_format", *self.fixed_fields, *self.stream_fields), ""),
            **({"references": "voice"} if self.reference_fields else {}),
            **({self.file_part: "voice"} if self.file_part else {}),
            **{theirs: said.get(ours, ours) for names in named for ours, theirs in names.items()},
        }


_OMNI_VOICES: Final = "/v1/audio/voices"
_UPLOADS: Final = "/v1/uploads/audio/voice"

DIALECTS: Final[Mapping[str, Dialect]] = {
    # What any of them takes: the fields of the standard and no other, for OpenAI itself refuses those.
    "": Dialect(
        capabilities=Capabilities(
            stream=True,
            instruct=True,
            speeds=(0.5, 2.0),
            sample_rates=_MODEL_RATES,
            required=("model", "voice"),
            advice="recordings travel in fields of each server's own; name its dialect, such as openai:vllm-omni",
        ),
        fields=_STANDARD,
        stream_fields={"stream_format": "audio"},
        # Whichever of them it is that answers.
        message_rules=(*VLLM_OMNI, *XINFERENCE, *VOX_BOX),
    ),
    "openai": Dialect(
        capabilities=Capabilities(
            stream=True, instruct=True, speeds=(0.25, 4.0), sample_rates=(24000,), required=("model", "voice")
        ),
        fields=_STANDARD,
        stream_fields={"stream_format": "audio"},
    ),
    # Fun-CosyVoice3, which has no voices of its own, makes 24,000 Hz and does not read instructions there. The field
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
        # Older revisions know only the first and stream bare audio; newer ones take it alone to mean events.
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
    # Fun-CosyVoice3, too: it demands a recording, and the voices that the server lists are for its other models.
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
    # It takes an empty voice for its first. While streaming it ignores the speed, as versions before 4 always do.
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
    # It applies the speed twice, so none is asked for. Its WAV says 22,050 Hz whatever the model.
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
        # It streams unless told not to.
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
"""Every dialect by its name; the nameless one is what any of them takes."""

"""Describe how the emulator behaves: every option, its rule and its help, in one record."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from cosyclient.emulator.apis import FAMILIES
from cosyclient.emulator.apis.openai.servers import SERVERS
from cosyclient.emulator.faults.plan import FAULTS


def _option(
    default: Any,
    help: str,
    *,
    kind: type | None = None,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
) -> Any:
    metadata = {
        "help": help,
        "kind": kind or type(default),
        "choices": choices,
        "least": least,
        "most": most,
        "optional": default is None,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Describe one emulator; a value that breaks its rule raises ValueError with the field's name.

    Times are float seconds. The same names, with dashes, are the options of the command line.
    """

    host: str = _option("127.0.0.1", "Address to listen on.")
    port: int = _option(0, "Port to listen on; 0 takes a free one.", least=0, most=65535)
    engine: Literal["espeak", "tone", "echo"] = _option(
        "espeak",
        "Voice: audible speech, a tone of the right length, or samples that carry the text itself.",
        choices=("espeak", "tone", "echo"),
    )
    serve: str = _option(
        "all", "Ways of serving to offer: all at once, or one alone as a real server would.", choices=("all", *FAMILIES)
    )
    rtt: float = _option(0.0, "Seconds of network round trip added to every request.", least=0)
    jitter: float = _option(
        0.0, "Spread of the round trip: it varies log-normally around rtt, by this standard deviation.", least=0, most=2
    )
    stragglers: float = _option(0.0, "Share of requests whose round trip takes ten times as long.", least=0, most=1)
    gpus: int = _option(0, "GPUs that render speech one text at a time; 0 renders without waiting.", least=0)
    rtf: float = _option(0.06, "GPU seconds per second of audio (real-time factor).", least=0)
    max_wait: float = _option(
        0.0, "Answer 503 overloaded when the GPU queue is longer than this many seconds; 0 queues for ever.", least=0
    )
    rate: float = _option(0.0, "Requests per second granted to each client address; 0 grants all.", least=0)
    burst: int = _option(100, "Requests a client address may send at once before the rate applies.", least=1)
    connections: int = _option(0, "Connections granted to each client address; 0 grants all.", least=0)
    connection_refusal: Literal["reply", "reset"] = _option(
        "reply",
        "How a connection too many is turned away: 429 too_many_connections, or a TCP reset.",
        choices=("reply", "reset"),
    )
    api_key: str | None = _option(
        None, "Bearer token that every request must show, the control pages' too; none admits every request.", kind=str
    )
    keep_alive: float = _option(60.0, "Seconds after which an idle connection is closed.", least=0)
    frames: bool = _option(True, "Offer the binary frames reply beside JSON.")
    json_shape: Literal["object", "array", "objects"] = _option(
        "object",
        "JSON reply: the full object, a bare array of base64 strings, or a bare array of item objects.",
        choices=("object", "array", "objects"),
    )
    item_delay: float = _option(0.0, "Seconds between the items of a frames reply.", least=0)
    first_chunk: float = _option(0.0, "Seconds until the first piece of streamed audio.", least=0)
    chunk_gap: float = _option(0.0, "Seconds between the pieces of streamed audio.", least=0)
    chunk_seconds: float = _option(1.0, "Seconds of audio in a piece of streamed audio.", least=0.001)
    task_idle: float = _option(
        23.0, "Seconds without text and audio after which a task over a WebSocket fails.", least=0.001
    )
    socket_idle: float = _option(60.0, "Seconds after which a WebSocket without a task is closed.", least=0.001)
    runtime_model: Literal["any", "cosyvoice-300m", "cosyvoice2", "cosyvoice3"] = _option(
        "any",
        "Model behind the official runtime's paths, which decides modes, voices and rate; any serves all at 24 kHz.",
        choices=("any", "cosyvoice-300m", "cosyvoice2", "cosyvoice3"),
    )
    runtime_tensor: bool = _option(
        False, "Let the official runtime fail on every recording, as it does since December 2025."
    )
    grpc: bool = _option(False, "Serve gRPC as well, on a port of its own.")
    grpc_port: int = _option(0, "Port for gRPC; 0 takes a free one.", least=0, most=65535)
    max_conc: int = _option(
        0, "GrpcApi that the gRPC runtime answers at once, its next one being refused; 0 answers all.", least=0
    )
    decoupled: bool = _option(
        False,
        "Have Triton's models built to stream: over gRPC in pieces, over HTTP not at all. cosyvoice2_dit always is.",
    )
    speech_tokens: int = _option(
        750, "Speech tokens, 25 a second, after which Triton's models stop, whatever is left of the text.", least=1
    )
    sse_lines: bool = _option(False, "Spread each event of an SSE reply over several data lines.")
    dialect: str = _option(
        "any",
        "OpenAI-compatible server that the paths below /v1/audio imitate; any takes what any of them takes.",
        choices=tuple(SERVERS),
    )
    dialect_old: bool = _option(
        False,
        "Answer as vLLM-Omni 0.22, Xinference 3 and the first SGLang-Omni did, whose stream was the other one.",
    )
    dialect_rate: int = _option(24000, "Sample rate of the model behind those paths.", least=8000, most=48000)
    dialect_label: int = _option(
        0, "Sample rate that WAV and L16 from those paths claim, whatever they have; 0 claims the true rate.", least=0
    )
    aligner: bool = _option(True, "Offer word timestamps, as vLLM-Omni does with --forced-aligner.")
    max_body_bytes: int = _option(1 << 20, "Largest request body accepted, before and after gzip.", least=1)
    gzip: bool = _option(False, "Compress JSON replies and error bodies for clients that accept gzip.")
    quota_headers: bool = _option(True, "Announce the rate in RateLimit headers.")
    seed: int | None = _option(None, "Seed of every random choice; none differs from run to run.", kind=int)
    slow_start: float = _option(0.0, "Seconds after the start during which 503 loading is answered.", least=0)
    fault: Mapping[str, float] = field(
        default_factory=dict,
        metadata={"help": f"Share of requests to which a fault applies, as NAME=SHARE: {', '.join(FAULTS)}."},
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.name != "fault":
                _check(each.name, getattr(self, each.name), each.metadata)
        object.__setattr__(self, "fault", _checked_faults(self.fault))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON and for ``Settings(**values)``."""
        return asdict(self)


def _check(name: str, value: object, rule: Mapping[str, Any]) -> None:
    kind: type = rule["kind"]
    if value is None and rule["optional"]:
        return
    accepted: tuple[type, ...] = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} must be of type {kind.__name__}, not {value!r}")
    if rule["choices"] and value not in rule["choices"]:
        raise ValueError(f"{name} must be one of {', '.join(rule['choices'])}, not {value!r}")
    if isinstance(value, (int, float)):
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, not {value!r}")
        if rule["least"] is not None and value < rule["least"]:
            raise ValueError(f"{name} must be at least {rule['least']}, not {value!r}")
        if rule["most"] is not None and value > rule["most"]:
            raise ValueError(f"{name} must be at most {rule['most']}, not {value!r}")


def _checked_faults(shares: Any) -> dict[str, float]:
    if not isinstance(shares, Mapping):
        raise ValueError(f"fault must map names to shares, not be {shares!r}")
    for name, share in shares.items():
        if name not in FAULTS:
            raise ValueError(f"fault must name one of {', '.join(FAULTS)}, not {name!r}")
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise ValueError(f"fault {name} must be a share between 0 and 1, not {share!r}")
    if sum(shares.values()) > 1:
        raise ValueError(f"fault shares must add up to at most 1, not {sum(shares.values()):g}")
    return dict(shares)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an option for each field to a parser."""
    for each in fields(Settings):
        option, rule = f"--{each.name.replace('_', '-')}", each.metadata
        if each.name == "fault":
            parser.add_argument(
                option, action="append", default=[], type=_share, metavar="NAME=SHARE", help=rule["help"]
            )
        elif rule["kind"] is bool:
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=each.default, help=rule["help"])
        else:
            shown = rule["help"] + ("" if rule["optional"] else " [default: %(default)s]")
            parser.add_argument(
                option,
                type=rule["kind"],
                default=each.default,
                choices=rule["choices"] or None,
                metavar=None if rule["choices"] else each.name.rpartition("_")[2].upper(),
                help=shown,
            )

    parser.add_argument(
        "--api-key-file",
        metavar="PATH",
        help="File that holds the bearer token, which others could read on the command line; - is standard input.",
    )


def from_arguments(namespace: argparse.Namespace) -> Settings:
    """Build the settings from what a parser with these options has read."""
    values = {each.name: getattr(namespace, each.name) for each in fields(Settings)}
    values["fault"] = dict(values["fault"])
    if namespace.api_key_file is not None:
        if values["api_key"] is not None:
            raise ValueError("api_key_file must be left out beside api_key")
        values["api_key"] = _key_in(namespace.api_key_file)
    return Settings(**values)


def _key_in(path: str) -> str:
    try:
        key = (sys.stdin.readline() if path == "-" else Path(path).read_text(encoding="utf-8")).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"api_key_file: {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    if not key:
        raise ValueError(f"api_key_file: {path}: holds no key")
    return key


def _share(argument: str) -> tuple[str, float]:
    name, equals, share = argument.partition("=")
    try:
        if equals:
            return name, float(share)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{argument!r} is not NAME=SHARE, like throttle=0.1")

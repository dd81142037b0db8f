"""The contract of every wire protocol; the next one adds its rows to `tests.protocols.cases`."""

from __future__ import annotations

import json
import re
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient.config import WireConfig
from cosyclient.errors import (
    BadRequest,
    BadUtterance,
    CosyError,
    DecodeError,
    NotFound,
    ServiceError,
    ServiceFault,
    Throttled,
    TooLarge,
    TransportError,
    Unauthorized,
)
from cosyclient.models import Speech, Utterance, VoiceSettings
from cosyclient.protocols.base import Quota, StreamingProtocol
from cosyclient.protocols.registry import ENTRIES, check_supported, protocol_for
from cosyclient.testing import ScriptedReply
from cosyclient.wire import WireReply, WireRequest
from tests.protocols import wire, wire_grpc, wire_openai
from tests.protocols.cases import CASES
from tests.protocols.reading import base64_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.protocols.protocol_case import ProtocolCase

__all__ = ["base64_by"]


cases = pytest.mark.parametrize("case", CASES, ids=str)
names = pytest.mark.parametrize("name", sorted({case.protocol for case in CASES}))


def texts_for(case: ProtocolCase, count: int) -> list[Utterance]:
    """Return *count* texts with the settings of this case."""
    return [Utterance(case.text or utterance.text, case.settings) for utterance in wire.texts(count)]


def row_of(name: str) -> ProtocolCase:
    """Return a row of the protocol of this name."""
    return next(case for case in CASES if case.protocol == name)


def decode(
    name: str, reply: WireReply, utterances: Sequence[Utterance]
) -> tuple[dict[int, Speech | CosyError], CosyError | None]:
    """Return the outcomes that a protocol decodes from a reply, and the error that ended it; no position twice."""
    found: dict[int, Speech | CosyError] = {}
    try:
        for position, outcome in chain.from_iterable(
            protocol_for(name, WireConfig()).decode(reply, utterances, wall=0.0)
        ):
            assert position not in found
            assert 0 <= position < len(utterances)
            found[position] = outcome
    except CosyError as error:
        return found, error
    return found, None


def assert_own_audio(case: ProtocolCase, found: dict[int, Any], utterances: Sequence[Utterance]) -> None:
    """Check that each speech is that of its text and plausible."""
    for position, speech in found.items():
        assert isinstance(speech, Speech)
        assert speech.audio == case.audio(position)
        assert speech.duration == pytest.approx(0.01 * (position + 1))
        assert speech.sample_rate == case.settings.sample_rate
        assert speech.fingerprint == utterances[position].fingerprint


def test_every_protocol_has_cases() -> None:
    """Every protocol of the registry is tested by this contract."""
    assert {case.protocol.partition(":")[0] for case in CASES} == {entry.family for entry in ENTRIES.values()}


# --- requests ---


@names
def test_encoding_is_repeatable_and_carries_its_key(name: str) -> None:
    """A retry sends the same bytes, and the service can recognise it."""
    case = row_of(name)
    utterances = texts_for(case, min(3, case.most))
    first, again = (protocol_for(name, WireConfig()).encode(utterances, key="key-1") for _ in range(2))
    assert isinstance(first, WireRequest)
    assert first == again
    assert any("key-1" in value for _, value in first.headers) is case.keyed
    assert not any(field.lower() in ("authorization", "host", "content-length") for field, _ in first.headers)


@names
def test_weights_bound_the_body(name: str) -> None:
    """A batch sealed by weight never exceeds what the service takes."""
    protocol = protocol_for(name, WireConfig())
    case = row_of(name)
    can = protocol.capabilities
    settings = case.settings.replace({"voice": "晓晓", "instruct": '"' * 500 if can.instruct else None})
    for text in ("a", '"\\' * 2048, "字" * 4096, "😀" * 4096, "\n\t" * 100 + "."):
        for count in {1, min(2, case.most), min(7, case.most)}:
            utterances = [Utterance(text[: can.max_characters], settings)] * count
            assert len(protocol.encode(utterances, key="k").body) <= sum(map(protocol.weigh, utterances))


@names
def test_nothing_is_encoded_for_bad_input(name: str) -> None:
    """Texts and settings that no service takes do not become a request."""
    with pytest.raises(BadUtterance):
        protocol_for(name, WireConfig()).encode([Utterance(" ", VoiceSettings())], key="k")
    if protocol_for(name, WireConfig()).capabilities.batch > 1:
        mixed = [Utterance("a", VoiceSettings(speed=speed)) for speed in (1.0, 1.2)]
        with pytest.raises(BadUtterance):
            protocol_for(name, WireConfig()).encode(mixed, key="k")


ADDED = {"zz_volume": 80, "zz_hint": "zh"}


def sent_by(request: WireRequest) -> bytes:
    """Return all that a request sends, with the first messages of a session."""
    messages = request.new_session().open() if request.new_session is not None else ()
    pieces = (piece if isinstance(piece, bytes) else piece.encode() for piece in messages)
    return b"\n".join((repr(request.headers).encode(), request.body, *pieces))


@names
def test_extra_members_are_sent_where_the_protocol_has_a_place_for_them(name: str) -> None:
    """Alone, in batches and streamed, within the weight; elsewhere the error names them."""
    protocol = protocol_for(name, WireConfig())
    case = row_of(name)
    settings = case.settings.replace({"extra": ADDED})
    utterances = [Utterance(case.text or "hello", settings)] * min(2, case.most)
    if protocol.capabilities.own_members is None:
        with pytest.raises(BadUtterance, match=f"extra: protocol {name} has no place for zz_hint and zz_volume"):
            check_supported(protocol, settings)
        return
    check_supported(protocol, settings)
    try:
        request = protocol.encode(utterances, key="k")
    except BadUtterance:
        # Its route for batches does not know them, so their weight keeps such texts out of batches.
        assert sum(map(protocol.weigh, utterances)) > WireConfig().max_request_bytes
        request = protocol.encode(utterances[:1], key="k")
    requests = [request]
    if protocol.capabilities.stream and isinstance(protocol, StreamingProtocol):
        streamed = settings.replace({"format": "pcm", "sample_rate": 24000})
        requests.append(protocol.encode_stream(Utterance(case.text or "hello", streamed), key="k"))
    for each in requests:
        assert all(member.encode() in sent_by(each) for member in ADDED)
        assert len(each.body) <= sum(map(protocol.weigh, utterances))
    plain = protocol.encode([Utterance(case.text or "hello", case.settings)], key="k")
    assert b"zz_" not in sent_by(plain)


@names
def test_a_member_that_the_protocol_sends_is_refused_as_extra(name: str) -> None:
    """The error names the option to use; no member that is really sent is missing from the list."""
    protocol = protocol_for(name, WireConfig())
    own = protocol.capabilities.own_members
    if own is None:
        return
    for member, option in own.items():
        with pytest.raises(
            BadUtterance, match=f"extra: {member} .*{f'pass {option}= instead' if option else 'itself'}"
        ):
            check_supported(protocol, row_of(name).settings.replace({"extra": {member: 1}}))
    for option in filter(None, own.values()):
        assert option in VoiceSettings.__dataclass_fields__
    sent = sent_by(protocol.encode([Utterance(row_of(name).text or "hello", row_of(name).settings)], key="k"))
    for member in re.findall(rb'"([a-z_]+)":|name="([a-z_]+)"', sent):
        known = (*own, *_AROUND.get(name.partition(":")[0], ()))
        assert (member[0] or member[1]).decode() in known


_AROUND = {
    # Members around the place where extra members go.
    "model-studio": (
        *("header", "action", "task_id", "streaming", "payload", "task_group", "task", "function"),
        *("parameters", "input"),
    ),
    "model-studio-http": ("input",),
    "pai-eas": ("input",),
    "vllm-omni-ws": ("text",),
    "triton": ("id", "inputs", "name", "shape", "datatype", "parameters", "binary_data_size", "outputs", "binary_data"),
}

# --- replies: success is status, media type, complete body and plausible audio ---


@cases
@pytest.mark.parametrize("split", [0, 1, 1000])
def test_a_whole_reply_is_a_speech_for_each_text(case: ProtocolCase, split: int) -> None:
    """Every position comes once, each with its own audio."""
    for count in {1, min(3, case.most)}:
        utterances = texts_for(case, count)
        found, error = decode(case.protocol, case.reply(case.whole(count), split), utterances)
        assert error is None
        assert set(found) == set(range(count))
        assert_own_audio(case, found, utterances)


@cases
@pytest.mark.parametrize("broken", [False, True])
def test_a_truncated_reply_is_retryable(case: ProtocolCase, broken: bool) -> None:
    """Whole items stay; the rest is an error that is retryable and counts against the endpoint."""
    if not (case.framed or broken):
        return  # only the transport knows that more was to come
    utterances = texts_for(case, min(3, case.most))
    body = case.whole(len(utterances))
    kept = set()
    for cut in (*range(0, len(body), 61), len(body) - 1):
        pieces: list[bytes | Exception] = [*case.pieces(body[:cut]), *([TransportError("reset")] if broken else [])]
        headers = {"Content-Type": case.media_type, **case.headers}
        found, error = decode(case.protocol, ScriptedReply(200, headers, pieces), utterances)
        assert_own_audio(case, found, utterances)
        assert isinstance(error, TransportError if broken else DecodeError)
        # A server that ends replies to bad requests in this way is at fault only where some bytes had come.
        excused = not cut and str(error).startswith("reset; ")
        assert (error.retryable, error.sent, error.endpoint_fault) == (True, True, not excused)
        kept.add(len(found))
    assert max(kept) == (len(utterances) if case.keeps else 0)


@cases
def test_a_reply_for_another_number_of_texts_is_refused(case: ProtocolCase) -> None:
    """Audio is never assigned to a text by guess."""
    for sent, answered in ((2, 1), (2, 3), (1, 0)):
        if max(sent, answered) > case.most or not (answered or case.framed):
            continue
        if case.whole(answered) == case.whole(sent):
            continue  # a file is the audio of one text, however many were sent
        utterances = texts_for(case, sent)
        found, error = decode(case.protocol, case.reply(case.whole(answered)), utterances)
        assert_own_audio(case, found, utterances)
        assert isinstance(error, DecodeError)
        # A whole reply without audio is no reply for another text.
        assert error.retryable is str(error).startswith("audio: empty")


@cases
@pytest.mark.parametrize("media_type", ["text/html", "", "application/octet-stream", "image/png"])
def test_the_media_type_counts_and_not_the_status(case: ProtocolCase, media_type: str) -> None:
    """A body of another media type is refused, even a right one, unless it begins as audio does."""
    if media_type in case.also:
        return
    reply = ScriptedReply(200, {"Content-Type": media_type}, case.pieces(case.whole(1)))
    utterances = texts_for(case, 1)
    found, error = decode(case.protocol, reply, utterances)
    if case.whole(1).startswith(b"RIFF"):
        assert error is None
        assert_own_audio(case, found, utterances)
        return
    assert found == {}
    assert isinstance(error, DecodeError)
    assert error.retryable


def without_audio(case: ProtocolCase) -> ScriptedReply:
    """Return a finished reply without audio for the one text of its request."""
    if case.form == "events" and case.protocol.startswith("openai"):
        return case.reply(wire_openai.done())
    if case.protocol == "triton":
        document = json.loads(wire_grpc.triton_json(1))
        for output in document["outputs"]:
            output["shape"], output["data"] = [1, 0], []
        return ScriptedReply(200, {"Content-Type": "application/json"}, [json.dumps(document).encode()])
    body = case.whole(0) if case.framed else b""
    return case.reply(b"" if body == case.whole(1) else body)


@pytest.mark.parametrize("case", [case for case in CASES if case.most == 1], ids=str)
def test_a_text_without_speech_is_not_the_endpoints_fault(case: ProtocolCase) -> None:
    """A reply without audio is right for it: a final error, or a short silence where the caller wants one."""
    for on_silent, wanted in (("error", None), ("silence", 0.3)):
        utterance = Utterance("……！？", case.settings.replace({"on_silent": on_silent}))
        found, error = decode(case.protocol, without_audio(case), [utterance])
        if wanted is None:
            assert isinstance(error, DecodeError)
            assert str(error).startswith("audio: none, for the text has nothing to be spoken; on_silent='silence'")
            assert (error.retryable, error.endpoint_fault) == (False, False)
            continue
        assert error is None
        speech = found[0]
        assert isinstance(speech, Speech)
        assert speech.duration == wanted
        assert not any(speech.pcm())
    for text in ("好。", "1"):
        found, error = decode(case.protocol, without_audio(case), [Utterance(text, case.settings)])
        assert isinstance(error, DecodeError)
        assert "triton" in case.protocol or error.retryable


@pytest.mark.parametrize("case", [case for case in CASES if case.protocol not in ("batch", "pai-eas")], ids=str)
def test_a_stream_without_samples_is_empty(case: ProtocolCase) -> None:
    """The protocol raises no error, as what follows depends on the text."""
    protocol = protocol_for(case.protocol, WireConfig())
    if not isinstance(protocol, StreamingProtocol):
        assert not protocol.capabilities.stream
        return
    utterance = Utterance("……！？", case.settings.replace({"format": "pcm"}))
    reply = without_audio(case) if case.most == 1 else ScriptedReply(200, {"Content-Type": "audio/pcm"}, [])
    pieces = protocol.decode_stream(reply, utterance, wall=0.0)
    assert b"".join(piece for piece in pieces if isinstance(piece, bytes)) == b""


@cases
def test_silence_and_noise_are_no_speech(case: ProtocolCase) -> None:
    """Audio is checked before it is returned."""
    for body in (
        b"",
        *([b"\0" * 1000] if case.framed else []),
        b"[" * 1000,
        b'{"results":[{"index":0,"status":"success","audio_data":""}]}',
    ):
        found, error = decode(case.protocol, case.reply(body), texts_for(case, 1))
        for outcome in found.values():
            assert isinstance(outcome, DecodeError)
            assert outcome.retryable
        assert found or isinstance(error, DecodeError)


# --- refusals ---


@names
@pytest.mark.parametrize(
    ("status", "kind", "retryable", "endpoint_fault"),
    [
        (302, ServiceError, False, False),
        (400, BadRequest, False, False),
        (401, Unauthorized, False, False),
        (404, NotFound, False, False),
        (408, ServiceError, True, False),
        (413, TooLarge, False, False),
        (422, BadRequest, False, False),
        (425, ServiceError, True, False),
        (429, Throttled, True, False),
        (500, ServiceFault, True, True),
        (501, ServiceFault, False, True),
        (502, ServiceFault, True, True),
        (503, ServiceFault, True, True),
        (504, ServiceFault, True, True),
    ],
)
def test_refusals_are_classified(
    name: str, status: int, kind: type[ServiceError], retryable: bool, endpoint_fault: bool
) -> None:
    """Section 8 of the protocol reference, rule 5; what the service answered is on the error."""
    reply = ScriptedReply(status, {"X-Request-Id": "r-1", "Retry-After": "3"}, [b"whatever"])
    case = row_of(name)
    found, error = decode(name, reply, texts_for(case, min(2, case.most)))
    assert found == {}
    assert isinstance(error, ServiceError)
    assert type(error) is kind
    assert (error.retryable, error.endpoint_fault, error.sent) == (retryable, endpoint_fault, True)
    assert (error.status, error.request_id, error.retry_after) == (status, "r-1", 3.0)


@names
def test_a_quota_is_read_from_the_headers(name: str) -> None:
    """No header is no information."""
    protocol = protocol_for(name, WireConfig())
    assert protocol.quota(ScriptedReply(200)) is None
    limited = ScriptedReply(429, {"RateLimit-Policy": '"ip";q=100;w=1', "RateLimit": '"ip";r=0;t=1'})
    assert protocol.quota(limited) == Quota(limit=100, window=1, remaining=0, reset=1)


@cases
def test_no_error_shows_text_or_audio(case: ProtocolCase) -> None:
    """Errors are logged."""
    utterances = texts_for(case, min(2, case.most))
    body = case.whole(len(utterances))
    replies = [
        *([case.reply(body[:-40]), case.reply(body[50:])] if case.framed else []),
        ScriptedReply(500, {"Content-Type": "text/plain"}, [b"x"]),
    ]
    replies += [
        ScriptedReply(status, {"Content-Type": "text/plain"}, [utterances[0].text.encode()]) for status in (400, 500)
    ]
    for reply in replies:
        _, error = decode(case.protocol, reply, utterances)
        assert error is not None
        shown = f"{error} {error!r}"
        assert len(shown) < 700
        assert not any(utterance.text.strip() in shown for utterance in utterances)
        assert "RIFF" not in shown
        assert "UklGR" not in shown

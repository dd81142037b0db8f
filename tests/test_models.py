"""The nouns: what an utterance may be, what identifies it, and what speeches can be made into."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import stat
import struct
import unicodedata
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.audio import parse_wav, wav_bytes
from cosyclient.errors import BadUtterance, ConfigurationError, DecodeError, ServiceFault
from cosyclient.models import Outcome, Speech, Utterance, VoiceSettings, check_text, has_speech, join, speech_of
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = VoiceSettings()


def speech(samples: bytes, format: str = "wav", rate: int = 24000, channels: int = 1, **more: Any) -> Speech:
    """Return a speech of these samples."""
    audio = wav_bytes(samples, rate, channels) if format == "wav" else samples
    return Speech(audio=audio, format=format, sample_rate=rate, channels=channels, **more)


# --- utterances ---


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "text: must not be empty or blank"),
        (" \t\n\u3000", "text: must not be empty or blank"),
        ("字" * 4097, "text: 4097 code points, at most 4096 are accepted"),
        ("a\x00b", r"text: control character U\+0000 at position 1"),
        ("bell\x07", r"U\+0007 at position 4"),
        ("\x1b[31mred", r"U\+001B at position 0"),
        ("del\x7f", r"U\+007F"),
        ("c1\x85", r"U\+0085"),
        ("a\ud800b", r"text: lone surrogate U\+D800 at position 1"),
        ("\udfff", r"lone surrogate U\+DFFF"),
        (None, "text: must be a str, got NoneType"),
        (b"bytes", "text: must be a str, got bytes"),
        (7, "text: must be a str, got int"),
    ],
)
def test_invalid_texts_are_refused(text: Any, rule: str) -> None:
    """The error names the field and the rule, and is a `ValueError`; nothing was sent."""
    with pytest.raises(BadUtterance, match=rule) as caught:
        Utterance(text, PLAIN)
    assert isinstance(caught.value, ValueError)
    assert not caught.value.sent


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "字" * 4096,
        "😀" * 4096,
        "line\nline\r\n\ttab",
        "[laughter] <strong>好</strong>",
        "e\u0301",
        "\u200b.",
        "。",
    ],
)
def test_valid_texts_are_kept_unchanged(text: str) -> None:
    """Validation changes nothing."""
    assert check_text(text) is text
    assert Utterance(text, PLAIN).text is text


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"format": "flac"}, "format: 'flac' is not one of wav, pcm, mp3, opus"),
        ({"format": "WAV"}, "format: 'WAV'"),
        ({"sample_rate": 11025}, "sample_rate: 11025 is not one of 8000, 16000"),
        ({"sample_rate": True}, "sample_rate: True"),
        ({"sample_rate": "24000"}, "sample_rate: '24000'"),
        ({"speed": 0.24}, "speed: must be a number from 0.25 to 4.0, got 0.24"),
        ({"speed": 4.01}, "speed"),
        ({"speed": float("nan")}, "speed"),
        ({"speed": "fast"}, "speed"),
        ({"speed": True}, "speed"),
        ({"seed": -1}, "seed: must be an integer from 0 to 65535, got -1"),
        ({"seed": 65536}, "seed"),
        ({"seed": 1.0}, "seed"),
        ({"seed": False}, "seed"),
        ({"voice": ""}, "voice: must be a non-blank str"),
        ({"voice": 5}, "voice"),
        ({"model": " "}, "model: must be a non-blank str"),
        ({"model": "\ud800"}, "model: lone surrogate"),
        ({"instruct": ""}, "instruct"),
        ({"instruct": "x" * 501}, "instruct: 501 code points, at most 500"),
    ],
)
def test_invalid_settings_are_refused(options: dict[str, Any], rule: str) -> None:
    """Each option has its rule, checked when settings are made and when they are laid over others."""
    with pytest.raises(BadUtterance, match=rule):
        VoiceSettings(**options)
    with pytest.raises(BadUtterance, match=rule):
        PLAIN.replace(options)


@pytest.mark.parametrize(
    "options",
    [{"speed": 0.5}, {"speed": 2}, {"seed": 0}, {"seed": 65535}, {"instruct": "x" * 500}, {"sample_rate": 48000}],
)
def test_settings_at_their_bounds_are_accepted(options: dict[str, Any]) -> None:
    """The bounds belong to the range."""
    assert PLAIN.replace(options) == VoiceSettings(**options)


def test_an_unknown_option_names_the_known_ones() -> None:
    """A typo is a configuration error."""
    with pytest.raises(ConfigurationError, match="unknown option pitch; known are extra, format, .*timeout"):
        PLAIN.replace({"volume": 1, "pitch": 2})


# --- identity ---


def test_the_fingerprint_is_stable_across_runs() -> None:
    """Caches outlive processes, so the digest of an utterance is written down here."""
    assert Utterance("你好，世界", PLAIN).fingerprint == "4679683ea3ac1ecad0aa8b4aa0f19e40"


def test_what_changes_the_audio_changes_the_fingerprint() -> None:
    """Equal after composition is equal; each option and the text itself make a difference."""
    composed, decomposed = "café", unicodedata.normalize("NFD", "café")
    assert composed != decomposed
    assert Utterance(composed, PLAIN).fingerprint == Utterance(decomposed, PLAIN).fingerprint
    options: list[dict[str, Any]] = [
        {},
        {"voice": "a"},
        {"model": "a"},
        {"instruct": "a"},
        {"format": "pcm"},
        {"sample_rate": 8000},
        {"speed": 1.1},
        {"seed": 1},
    ]
    digests = {Utterance(text, PLAIN.replace(each)).fingerprint for each in options for text in ("a", "b")}
    assert len(digests) == 2 * len(options)
    assert all(len(digest) == 32 and set(digest) <= set("0123456789abcdef") for digest in digests)


def test_equal_settings_have_equal_keys() -> None:
    """Texts with equal settings share requests, however the settings were made."""
    one, other = VoiceSettings(voice="a", seed=3), PLAIN.replace({"voice": "a", "seed": 3})
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other, PLAIN}) == 2
    assert Utterance("a", one) == Utterance("a", other)
    assert len({Utterance("a", one), Utterance("a", other), Utterance("b", one)}) == 2


def test_on_silent_changes_the_key_but_not_the_fingerprint() -> None:
    """Two callers who disagree must not share a speech; what was spoken stays known to those who resume."""
    silent = PLAIN.replace({"on_silent": "silence"})
    assert Utterance("…", silent).key != Utterance("…", PLAIN).key
    assert Utterance("…", silent).fingerprint == Utterance("…", PLAIN).fingerprint
    with pytest.raises(BadUtterance, match="on_silent: must be 'error' or 'silence', got 'skip'"):
        PLAIN.replace({"on_silent": "skip"})


@pytest.mark.parametrize("text", ["a", "7", "你", "...!ok", "½", "1️⃣", "हि", "“é”", "々人"])
def test_letters_and_digits_are_speech(text: str) -> None:
    """One of them anywhere is enough."""
    assert has_speech(text)


@pytest.mark.parametrize(
    "text", ["…", "。！？", "* * *", "——", "😀", "❤️ 👨‍👩‍👧", "🇩🇪", "\u3000", "ーーー", "", "🅰", "<>"]
)
def test_punctuation_and_symbols_are_not_speech(text: str) -> None:
    """CosyVoice makes no audio for them."""
    assert not has_speech(text)


def test_expected_seconds_follow_script_and_speed() -> None:
    """Twenty Chinese characters are about four seconds; twice the speed is half of that."""
    assert Utterance("字" * 20, PLAIN).expected_seconds == pytest.approx(4.0)
    assert Utterance("字" * 20, VoiceSettings(speed=2.0)).expected_seconds == pytest.approx(2.0)
    assert Utterance("a" * 20, PLAIN).expected_seconds == pytest.approx(1.3)


def test_reprs_show_no_text_and_no_audio() -> None:
    """What may be logged names lengths and digests."""
    secret = Utterance("my secret", PLAIN)
    received = speech(bytes(48000), duration=1.0, fingerprint=secret.fingerprint)
    assert repr(secret) == f"<Utterance {secret.fingerprint[:12]}, 9 characters>"
    assert repr(received) == f"<Speech {secret.fingerprint[:12]} wav 1.00 s at 24000 Hz, 48044 bytes>"
    request = WireRequest(method="POST", path="/batch", headers=(("Authorization", "Bearer x"),), body=b"my secret")
    assert repr(request) == "<WireRequest POST /batch, 9 bytes>"
    assert repr(Outcome(0, "my secret", received)) == f"<Outcome 0: {received!r}>"
    assert "secret" not in repr(Outcome(0, "my secret", error=ServiceFault("down")))


# --- speeches ---


@pytest.mark.parametrize(
    "use",
    [
        lambda made: made,
        copy.copy,
        copy.deepcopy,
        lambda made: pickle.loads(pickle.dumps(made)),
        dataclasses.replace,
        lambda made: Speech(**dataclasses.asdict(made)),
    ],
    ids=["itself", "copy", "deepcopy", "pickle", "replace", "asdict"],
)
def test_a_speech_of_an_utterance_is_as_if_constructed(use: Any) -> None:
    """Though its fingerprint is computed when it is first read."""
    utterance = Utterance("my secret", VoiceSettings(format="pcm"))

    def made() -> Speech:
        return speech_of(utterance, b"\1\0", sample_rate=8000, channels=2, duration=0.5)

    whole = Speech(
        audio=b"\1\0",
        format="pcm",
        sample_rate=8000,
        channels=2,
        duration=0.5,
        fingerprint=utterance.fingerprint,
    )
    assert use(made()) == whole
    assert hash(use(made())) == hash(whole)
    assert repr(use(made())) == repr(whole)
    assert use(made()).fingerprint == utterance.fingerprint
    assert dataclasses.replace(use(made()), fingerprint="x", attempts=2).fingerprint == "x"
    assert b"secret" not in pickle.dumps(made())
    with pytest.raises(dataclasses.FrozenInstanceError):
        use(made()).fingerprint = "y"
    with pytest.raises(dataclasses.FrozenInstanceError):
        use(made()).audio = b""


def test_media_types_and_samples() -> None:
    """wav and pcm return their samples, compressed audio is an error."""
    samples = bytes(range(100))
    assert speech(samples).media_type == "audio/wav"
    assert speech(samples).pcm() == speech(samples, "pcm").pcm() == samples
    for format, kind in (("mp3", "audio/mpeg"), ("opus", "audio/ogg")):
        assert speech(samples, format).media_type == kind
        with pytest.raises(ConfigurationError, match=f"format: {format} holds no plain samples"):
            speech(samples, format).pcm()
    with pytest.raises(DecodeError):
        Speech(audio=b"noise", format="wav", sample_rate=24000).pcm()


def test_save_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is there whole or as it was; nothing else is left behind."""
    target = tmp_path / "a.wav"
    first, second = speech(b"\1\0"), speech(b"\2\0")
    assert first.save(target) == target
    assert first.save(str(target)) == target
    assert target.read_bytes() == first.audio
    assert stat.S_IMODE(target.stat().st_mode) & 0o600 == 0o600

    def broken(*names: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        second.save(target)
    monkeypatch.undo()
    assert target.read_bytes() == first.audio
    assert os.listdir(tmp_path) == ["a.wav"]
    second.save(target)
    assert target.read_bytes() == second.audio


def test_a_saved_file_gets_the_usual_permissions(tmp_path: Path) -> None:
    """The umask decides, as it does for open()."""
    (tmp_path / "plain").write_bytes(b"")
    speech(b"\1\0").save(tmp_path / "saved")
    assert (tmp_path / "saved").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_saving_into_a_missing_directory_is_an_os_error(tmp_path: Path) -> None:
    """A missing directory is the caller's to make."""
    with pytest.raises(FileNotFoundError):
        speech(b"\1\0").save(tmp_path / "missing" / "a.wav")


def test_unwrap_returns_the_speech_or_raises_the_error() -> None:
    """An outcome is one or the other."""
    received, error = speech(b"\1\0"), ServiceFault("down")
    assert Outcome(0, "a", received).unwrap() is received
    with pytest.raises(ServiceFault) as caught:
        Outcome(1, "a", error=error).unwrap()
    assert caught.value is error


# --- join ---

PARTS = st.lists(st.lists(st.integers(-32768, 32767), min_size=1, max_size=30), min_size=1, max_size=6)


@given(PARTS, st.integers(0, 200), st.sampled_from([8000, 24000]))
@settings(deadline=None)
def test_join_is_sample_exact(parts: list[list[int]], silent: int, rate: int) -> None:
    """Every sample of every part is in the whole once and in order, with whole samples of silence between."""
    raw = [struct.pack(f"<{len(part)}h", *part) for part in parts]
    speeches = [speech(each, "wav" if index % 2 else "pcm", rate) for index, each in enumerate(raw)]
    whole = join(speeches, gap=silent / rate)
    info = parse_wav(whole.audio)
    assert info.samples == bytes(2 * silent).join(raw)
    assert (info.sample_rate, whole.sample_rate, whole.format) == (rate, rate, "wav")
    assert whole.duration == pytest.approx(info.duration)


def test_join_takes_every_kind_of_samples() -> None:
    """What the service sent as floats or with 24 bits is joined with what it sent with 16."""
    kinds = {"<f": (3, 32, struct.pack("<2f", 0.5, -0.5)), "24": (1, 24, b"\7\0\x40\7\0\xc0")}
    parts = [speech(struct.pack("<2h", 16384, -16384))]
    for tag, bits, samples in kinds.values():
        fmt = struct.pack("<HHIIHH", tag, 1, 24000, 24000 * bits // 8, bits // 8, bits)
        head = b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", len(samples))
        file = b"RIFF" + struct.pack("<I", len(head) + len(samples)) + head + samples
        parts.append(Speech(audio=file, format="wav", sample_rate=24000))
    assert all(part.pcm() == parts[0].pcm() for part in parts)
    assert join(parts).pcm() == parts[0].pcm() * 3


def test_a_joined_speech_sums_up_its_parts() -> None:
    """Two channels stay two; attempts are the most any part took; the fingerprint names the parts in order."""
    one = speech(bytes(8), channels=2, attempts=2, cached=True, fingerprint="a")
    two = speech(bytes(4), channels=2, attempts=1, cached=False, fingerprint="b")
    whole = join((one, two))
    assert (whole.channels, whole.attempts, whole.cached) == (2, 2, False)
    assert whole.fingerprint == join([one, two]).fingerprint != join([two, one]).fingerprint
    assert len(parse_wav(whole.audio).samples) == 12
    assert join([one]).cached


@pytest.mark.parametrize(
    ("speeches", "gap", "rule"),
    [
        ([], 0.0, "speeches: nothing to join"),
        ([speech(b"\1\0")], -0.1, "gap: must be from 0 to 3600 seconds, got -0.1"),
        ([speech(b"\1\0")], float("nan"), "gap"),
        ([speech(b"\1\0")], float("inf"), "gap"),
        ([speech(b"\1\0")], 1e9, "gap: must be from 0 to 3600 seconds"),
        ([Speech(audio=b"\1\0", format="pcm", sample_rate=24000, channels=0)], 0.0, "with 0 channel"),
        ([Speech(audio=b"\1\0", format="pcm", sample_rate=0)], 0.0, "at 0 Hz"),
        (
            [speech(b"\1\0"), speech(b"\1\0", rate=8000)],
            0.0,
            "number 1 has 8000 Hz and 1 channel.s., the first 24000 Hz",
        ),
        ([speech(b"\1\0"), speech(b"\1\0\1\0", channels=2)], 0.0, "number 1 has 24000 Hz and 2 channel"),
        ([speech(b"\1\0", "mp3")], 0.0, "format: mp3 holds no plain samples"),
        ([speech(b"\1\0"), speech(b"\1\0", "opus")], 0.0, "format: opus holds no plain samples"),
    ],
)
def test_what_cannot_be_joined_is_refused(speeches: list[Speech], gap: float, rule: str) -> None:
    """The error names what is in the way."""
    with pytest.raises(ConfigurationError, match=rule):
        join(speeches, gap)

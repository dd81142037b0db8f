"""`codecs.json_whole`: a reply that arrives whole is read exactly as `ResultReader` reads it bit by bit."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.protocols.codecs import json_results
from cosyclient.protocols.codecs.json_whole import ALL_AUDIO_NAMES, parse_whole
from tests.protocols import wire
from tests.protocols.codecs.test_json_results import AUDIO, BODIES, CODED, LONG, read, shown
from tests.protocols.reading import base64_by

__all__ = ["base64_by"]

OTHER = base64.b64encode(AUDIO[::-1]).decode()
RESULT = f'{{"index":0,"audio_data":"{CODED}"}}'
BODY = wire.json_body([wire.result(index, audio_data=CODED) for index in range(2)])
TOKENS = [
    *(
        '{"results":[',
        '"results"',
        '"r\\u0065sults"',
        '"audio_data":',
        '"audio":',
        '{"data":[',
        '"a":',
        '"a"',
        f'"{CODED}"',
        RESULT,
        '{"index":0}',
    ),
    *("A" * 1100, f'"{LONG}"', " " * 1100, "-Infinity", "NaN", "1", "null", "\ufeff", "\x0b", *'{}[],:"\\ '),
]
SMALL = b'\xef\xbb\xbf {"id":"\\u4e2d\xe4\xb8\xad","total":2,"results":[{"a":[-1.5e3,"\\""]},"",null], "x":{"y":NaN} } '


def both(*chunks: bytes) -> tuple[Any, Any]:
    """Return results, members and error as `ResultReader` reads *chunks*, without `parse_whole` and with it.

    The audio of results is bytes both times; among the members it may be bytes or text.
    """

    def reading() -> tuple[str, ...]:
        results, members, error = read(chunks)
        return repr(results), repr(shown(members)), repr(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_results, "parse_whole", lambda _: None)
        plain = reading()
    return plain, reading()


@given(BODIES, st.data())
@settings(deadline=None)
def test_any_body_gives_the_same_results_and_errors(body: bytes, data: st.DataObject) -> None:
    """Complete or damaged."""
    plain, whole = both(body)
    assert plain == whole
    at = data.draw(st.integers(0, len(body)))
    put = data.draw(
        st.sampled_from([b"", *(bytes([each]) for each in b'"\\[]{},:0 \xff\n'), b'"results":[', b"-Infinity", b",1"])
    )
    plain, whole = both(body[:at] + put + body[at + data.draw(st.integers(0, 1)) :])
    assert plain == whole


@given(
    st.sampled_from(["", "[", '{"results":[', '{"a":1,"results":[']),
    st.lists(st.sampled_from(TOKENS), max_size=10),
    st.sampled_from(["", "]", "]}", "}", ' ,"b":2} ']),
)
@settings(deadline=None)
def test_any_tokens_give_the_same_results_and_errors(opening: str, tokens: list[str], end: str) -> None:
    """JSON or not."""
    plain, whole = both((opening + "".join(tokens) + end).encode())
    assert plain == whole


@pytest.mark.parametrize("body", [SMALL, BODY], ids=["small", "audio"])
def test_every_truncation_gives_the_same_results_and_error(body: bytes) -> None:
    """At every position, whatever follows in another chunk; amid audio one place is as good as another."""
    for cut in (*range(min(300, len(body))), *range(max(0, len(body) - 300), len(body) + 1)):
        for rest in ((), (body[cut:],), (b"x",), (b" ", b"\n")):
            plain, whole = both(body[:cut], *rest)
            assert plain == whole, (cut, rest)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        '{"results":[]}',
        f"[{RESULT}]]",
        f'{{,"results":[{RESULT}]}}',
        f'{{"a":1,,"results":[{RESULT}]}}',
        f'{{"results":[{RESULT}],}}',
        f'{{"results":[{RESULT}] "a":1}}',
        f'{{"a":1 "results":[{RESULT}]}}',
        f'{{"a":1,"results":[{RESULT}],"b":2,"a":3}}',
        f'{{"a":1,"a":2,"results":[{RESULT}]}}',
        f'{{"results":[{RESULT}],"results":[7]}}',
        f'{{"results":[7],"results":[{RESULT}]}}',
        f'{{"r\\u0065sults":[7],"results":[{RESULT}]}}',
        f'{{"results":[{RESULT}],"r\\u0065sults":[7]}}',
        f'{{"r\\u0065sults":[{RESULT}]}}',
        f'{{"x":{{"results":[{RESULT}]}}}}',
        f'{{"x":{{"a":1,"results":[{RESULT}]}}}}',
        f'{{"x":["results"],"results":[{RESULT}]}}',
        f'{{"x":"\\"results","results":[{RESULT}]}}',
        f'{{"x":",\\"results\\":[","results":[{RESULT}]}}',
        f'{{"x":"results","results":[{RESULT}]}}',
        f'{{"results":null,"data":[{RESULT}]}}',
        f'{{"results" \n:\t[ {RESULT} ] \r}}',
        f'{{"results"\x0b:[{RESULT}]}}',
        f'{{\x0b"results":[{RESULT}]}}',
        f'{{"results":[{RESULT}]\x0b}}',
        f'{{"results":[{RESULT}],"x":"{CODED}"}}',
        f'{{"x":"{CODED}","results":[{RESULT}]}}',
        f'["{CODED}",{RESULT},"{CODED}"]',
        f'["{CODED}"x"{CODED}"]',
        f'["a"{"A" * 1400}"b"]',
        f'["a"{"A" * 1400}"b",{RESULT}]',
        f'[{{"audio_data":"{CODED}","audio_data":"{CODED}"}}]',
        f'[{{"audio_data":"{CODED}","audio_data":"x"}}]',
        f'[{{"audio_data":"x","audio_data":"{CODED}"}}]',
        f'[{{"audio":"{CODED}"}},{RESULT}]',
        f'[{{"audio":"{CODED}","data":"{OTHER}"}}]',
        f'[{{"data":"{CODED}","audio":"{OTHER}"}}]',
        f'[{{"audio":"{CODED}","audio":"{OTHER}"}}]',
        f'[{{"text":"{CODED}","audio":"{OTHER}"}}]',
        f'[{{"audio":"{CODED}","text":"{OTHER}"}}]',
        f'[{{"audio":{{"data":"{CODED}"}}}}]',
        f'[{{"audio":["{CODED}"]}}]',
        f'{{"audios":["{CODED}","{OTHER}",null,7]}}',
        f'{{"audios":["{CODED}"],"audios":["{OTHER}"]}}',
        f'{{"audios":["x"],"data":["{CODED}"],"audios":["{OTHER}"]}}',
        f'{{"audios":1,"data":[{{"audio":"{CODED}"}}],"audios":[{{"audio":"{OTHER}"}}]}}',
        f'{{"audio":1,"data":["{CODED}"],"audio":"{OTHER}"}}',
        f'{{"data":["{CODED}"],"audio":"{OTHER}"}}',
        f'{{"text":"{CODED}","data":["{OTHER}"]}}',
        f'{{"audio":"{CODED}"}}',
        f'{{"audio":"{CODED}","content":"{OTHER}"}}',
        f'{{"data":{{"audios":["{CODED}"]}}}}',
        f'{{"data":[["{CODED}"]]}}',
        f'{{"data":["{CODED[:-1]}","{OTHER}"]}}',
        f'{{"results":{{}},"data":["{CODED}"]}}',
        f'{{"r\\u0065sults":[7],"results":null,"data":["{CODED}"]}}',
        f'{{"results":null,"r\\u0065sults":[7],"data":["{CODED}"]}}',
        f'{{"data":["{CODED}"]}} x',
        f'{{"data":["{CODED}"],}}',
        f'{{"data":["{CODED}",-Infinity]}}',
        '{"data":' + "[" * 200 + "]" * 200 + "}",
        '{"data":' + "[" * 201 + "]" * 201 + "}",
        '{"data":[{"x":' + "[" * 198 + "]" * 198 + f'}},{{"audio":"{CODED}"}}]}}',
        '{"data":[{"x":' + "[" * 199 + "]" * 199 + f'}},{{"audio":"{CODED}"}}]}}',
        "{" + "".join(f'"{n}":1,' for n in range(999)) + f'"data":["{CODED}"]}}',
        "{" + "".join(f'"{n}":1,' for n in range(1000)) + f'"data":["{CODED}"]}}',
        "{" + "".join(f'"{n}":1,' for n in range(1000)) + '"0":2}',
        f'[["{CODED}"]]',
        f'[{{"audio_data":"{CODED}","speed":-Infinity}}]',
        f'[{{"audio_data":"{CODED}","speed":[NaN,Infinity]}}]',
        f'[{{"audio_data":"{CODED}","x":"-Infinity"}}]',
        "[-Infinity]",
        '[{"audio_data":-Infinity}]',
        f'[{{"audio_data":"{CODED[:-1]}"}},{RESULT}]',
        f'[{{"audio_data":"{CODED[:-4]}AB=="}},{RESULT}]',
        f'[{{"audio_data":"{CODED}\n"}}]',
        f'[{{"audio_data":"{CODED}\\n"}}]',
        f'[{{"audio_data":"\\"{CODED}"}}]',
        f'[{{"audio_data":"{CODED}\\"}}]',
        f'[{{"audio_data":"{LONG}"}},"{LONG}"]',
        f'["{"A" * 1024}","{"A" * 1025}","{"A" * 1028}"]',
        f'["{"A" * 1024}"]',
        f"{' ' * 3000}[{RESULT}{' ' * 3000}]{' ' * 3000}",
        f'["{" " * 1100}"," {RESULT}"]',
        "[" + "7" * 5000 + "]",
        "[" + "[" * 199 + "]" * 199 + "]",
        "[" + "[" * 200 + "]" * 200 + "," + RESULT + "]",
        "[" + "[" * 201 + "]" * 201 + "," + RESULT + "]",
        "[" + (RESULT + ",") * 8 + "[" * 205 + "]" * 205 + "]",
        "[" + f'"{CODED}",' * 8 + "[" * 205 + "]" * 205 + "]",
        "[" * 40_000 + "]" * 40_000,
        "[" + "[" * 100_000 + "]" * 100_000 + "]",
        "[[" + "0," * 100_001 + "0]]",
        "{" + "".join(f'"{n}":1,' for n in range(1000)) + f'"results":[{RESULT}]}}',
        "{" + "".join(f'"{n}":1,' for n in range(1001)) + f'"results":[{RESULT}]}}',
        f'{{"results":[{RESULT}]' + "".join(f',"{n}":1' for n in range(1001)) + "}",
        "{" + "".join(f'"{n}":1,' for n in range(1000)) + f'"results":[{RESULT}],"0":2}}',
        "[" + "{}," * 100_000 + "{}]",
        "\ufeff\ufeff[]",
        "\ufeff",
        "\u00a0[]",
    ],
)
def test_odd_bodies_give_the_same_results_and_errors(body: str) -> None:
    """Those that one of the two could take for something else."""
    plain, whole = both(body.encode())
    assert plain == whole


@pytest.mark.parametrize("body", [b'["\xff"]', b'{"\xff":1,"results":[]}', b'["' + b"A" * 1400 + b'\xff"]', b"[]\xff"])
def test_bytes_that_are_no_text_give_the_same_error(body: bytes) -> None:
    """Between the strings and within."""
    plain, whole = both(body)
    assert plain == whole


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        BODY.rstrip(b"\n") + b"\r\n",
        b"\xef\xbb\xbf" + BODY,
        json.dumps({"results": [wire.result(0, text="春眠不觉晓")], "total": 1}).encode(),
        json.dumps([CODED, None, {"audio_data": CODED, "error": "é\n"}], ensure_ascii=False).encode(),
        *(json.dumps({"results": [{"index": 0, name: CODED}]}).encode() for name in ALL_AUDIO_NAMES),
        *(json.dumps({"code": 0, "data": [{"text": "a", name: CODED}]}).encode() for name in ALL_AUDIO_NAMES),
        json.dumps({"durations": [1, 2], "audios": [CODED, CODED]}).encode(),
        json.dumps({"audio": CODED, "sample_rate": 24000}).encode(),
        json.dumps({"text": "results", "audios": [CODED]}).encode(),
        b'{"results":[]}',
        b"[]",
    ],
)
def test_ordinary_replies_are_parsed_at_once(body: bytes) -> None:
    """Every usual layout; a test of equality alone would pass if none were."""
    whole = parse_whole(body)
    assert whole is not None
    assert CODED not in repr(whole)


@pytest.mark.parametrize(
    "reply",
    [
        [{"text": CODED, "audio": OTHER}],
        {"results": [{"text": CODED, "audio": OTHER}]},
        {"data": [{"audio": CODED}, {"text": OTHER}]},
        {"text": CODED, "data": [OTHER]},
    ],
)
def test_a_long_string_that_is_no_audio_is_left_to_the_reader(reply: object) -> None:
    """Valid base64 as it may be, it stays text."""
    assert parse_whole(json.dumps(reply).encode()) is None


def test_audio_of_members_is_in_its_place() -> None:
    """Also where others are without audio."""
    whole = parse_whole(json.dumps({"data": [{"b64_json": CODED}, {}, None, {"wav": OTHER}]}).encode())
    assert whole is not None
    assert whole.before == {"data": [{"b64_json": AUDIO}, {}, None, {"wav": AUDIO[::-1]}]}
    assert not whole.has_results


def test_the_end_of_the_chunks_is_still_awaited() -> None:
    """Results are yielded first; then blanks are read, bytes of another reply and errors of the connection."""
    chunks = iter([BODY, b"\n", b""])
    results = json_results.ResultReader(chunks, max_results=2).results()
    assert [result["audio_data"] for result in next(results)] == [base64.b64decode(CODED)] * 2
    assert next(results, None) is None
    assert next(chunks, None) is None
    found, _, error = read([BODY, b" ", b"["])
    assert len(found) == 2
    assert f"{len(BODY) + 2} bytes that are no JSON reply" in str(error)

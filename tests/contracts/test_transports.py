"""Every transport keeps these promises of `cosyclient.transports.base`; some only the library's own pool can keep."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from cosyclient.config import ClientConfig, TimeoutConfig, WireConfig
from cosyclient.errors import (
    AttemptTimeout,
    BulkheadFull,
    ClientClosed,
    ConnectFailed,
    CosyError,
    DeadlineExceeded,
    DecodeError,
    TransportError,
)
from cosyclient.transports.http.transport import HttpTransport
from tests.support.hostile import (
    CUT_CHUNK,
    CUT_CHUNKED,
    CUT_HEAD,
    CUT_LENGTH,
    GARBAGE,
    ServedConnection,
    answers,
    bomb,
    chunked,
    cuts_after,
    drips_body,
    drips_chunk_size,
    drips_head,
    echoes,
    goes_stale,
    gzipped,
    hangs_after,
    hostile,
    never_answers,
    never_reads,
    noise,
    refuses_stale,
    reply,
    resets_after,
    unanswered,
)
from tests.transports.wire import ask, made, request, sent, whole

Make = Callable[..., HttpTransport]
QUICK = ClientConfig(timeouts=TimeoutConfig(connect=0.05))


@pytest.fixture(params=["urllib3 pool", "httpx.HTTPTransport"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Make transports of each kind, closed after the test."""
    yield from _maker(own=request.param == "urllib3 pool")


@pytest.fixture
def make_own() -> Iterator[Make]:
    """Make transports over the library's own pool, for promises that httpx's own cannot keep."""
    yield from _maker(own=True)


def _maker(*, own: bool) -> Iterator[Make]:
    open_ones: list[HttpTransport] = []

    def make(url: str, *, connections: int = 8, config: ClientConfig | None = None) -> HttpTransport:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        foreign = None if own else httpx.HTTPTransport(limits=limits, trust_env=False)
        open_ones.append(made(url, foreign, connections=connections, config=config))
        return open_ones[-1]

    yield make
    for transport in open_ones:
        transport.close()


def test_a_reply_has_status_headers_and_content(make: Make) -> None:
    """Headers are looked up in any case."""
    with hostile(answers(reply(b"hello", headers=("X-Request-Id: r1",)))) as service:
        answer = sent(make(service.url))
        assert (answer.status, answer.headers["x-REQUEST-id"], whole(answer)) == (200, "r1", b"hello")


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (chunked(b"he", b"l" * 200_000, b"o"), b"he" + b"l" * 200_000 + b"o"),
        (gzipped(b"hello" * 1000), b"hello" * 1000),
        (reply(b""), b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + reply(b"late"), b"late"),
    ],
    ids=["chunked", "gzip", "empty", "204", "after an interim reply"],
)
def test_each_framing_is_read_to_its_end_and_the_connection_reused(make: Make, data: bytes, content: bytes) -> None:
    """The next request needs no new connection."""
    with hostile(answers(data)) as service:
        transport = make(service.url)
        assert [ask(transport)[1] for _ in range(3)] == [content] * 3
        assert service.seen == 1


def test_content_without_length_ends_with_the_connection(make: Make) -> None:
    """Such a connection is not used again."""
    with hostile(cuts_after(b"HTTP/1.1 200 OK\r\n\r\nhello")) as service:
        transport = make(service.url)
        assert [ask(transport)[1] for _ in range(2)] == [b"hello"] * 2
        assert service.seen == 2


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "429 Too Many Requests", "500 Oops", "503 Busy"])
def test_an_error_status_is_a_reply_and_a_redirect_is_not_followed(make: Make, status: str) -> None:
    """The protocol decodes statuses."""
    with hostile(answers(reply(b"no", status=status, headers=("Location: /elsewhere", "Retry-After: 3")))) as service:
        answer = sent(make(service.url))
        assert (str(answer.status), answer.headers["retry-after"]) == (status[:3], "3")
        assert whole(answer) == b"no"
        assert [received.path for received in service.requests] == ["/v1/speech"]


def test_a_request_arrives_as_given(make: Make) -> None:
    """Method, path, headers and body, with the credentials."""
    with hostile(answers()) as service:
        transport = make(service.url + "/base")
        ask(transport, request(b"\x00body" * 100_000, "/v1/x?a=%20b", X_Tag="t1"))
        ask(transport, request(b"", "/v1/y", method="GET"))
        first, second = service.requests
    assert first.line == "POST /base/v1/x?a=%20b HTTP/1.1"
    assert first.body == b"\x00body" * 100_000
    assert first.headers["host"] == service.url.removeprefix("http://")
    assert first.headers["x-tag"] == "t1"
    assert first.headers["authorization"] == "Bearer s3cret-key"
    assert first.headers["accept-encoding"] == "gzip"
    assert first.headers["user-agent"].startswith("cosyclient/")
    assert (second.line, second.body) == ("GET /base/v1/y HTTP/1.1", b"")


def test_a_piece_is_yielded_as_soon_as_it_has_come(make: Make) -> None:
    """Here the next one never comes."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    with hostile(hangs_after(head + b"first")) as service:
        answer = sent(make(service.url))
        assert next(iter(answer.chunks())) == b"first"
        answer.close()


def test_no_caller_gets_another_callers_reply(make: Make) -> None:
    """Many threads, few connections, every body belongs to its request."""
    with hostile(echoes()) as service, ThreadPoolExecutor(16) as threads:
        transport = make(service.url, connections=16)
        bodies = list(threads.map(lambda n: ask(transport, request(b"b", X_Tag=str(n)))[1], range(400)))
        assert bodies == [b"%d|b" % n for n in range(400)]
        assert service.peak <= 16


@pytest.mark.parametrize(
    "data",
    [CUT_LENGTH, CUT_CHUNKED, CUT_CHUNK, CUT_HEAD, GARBAGE, b"", b"HTTP/1.1 abc\r\n\r\n", gzipped(b"x" * 9999)[:-20]],
    ids=["length", "between chunks", "within a chunk", "head", "garbage", "nothing", "no status", "gzip"],
)
def test_a_reply_cut_short_or_garbled_is_a_transport_error(make: Make, data: bytes) -> None:
    """A truncation never passes for content; bytes were sent, so it may have been billed; it is retryable."""
    with hostile(cuts_after(data)) as service:
        with pytest.raises(TransportError) as caught:
            ask(make(service.url))
        assert not isinstance(caught.value, (ConnectFailed, AttemptTimeout))
        assert (caught.value.sent, caught.value.retryable, caught.value.endpoint_fault) == (True, True, True)
        assert caught.value.__cause__ is not None or b"gzip" in data


@pytest.mark.parametrize("data", [b"", CUT_HEAD, CUT_LENGTH, CUT_CHUNKED], ids=["nothing", "head", "body", "chunks"])
def test_a_reset_is_a_transport_error(make: Make, data: bytes) -> None:
    """Whenever it comes."""
    with hostile(resets_after(data)) as service, pytest.raises(TransportError):
        ask(make(service.url))


def test_ten_megabytes_of_noise_are_refused(make: Make) -> None:
    """Noise is not HTTP, and is not read to its end to find out."""
    with hostile(noise()) as service, pytest.raises(TransportError):
        ask(make(service.url))


def test_a_service_that_is_not_there_is_a_connect_failure(make: Make) -> None:
    """Nothing was sent."""
    with hostile(answers()) as service:
        url = service.url
    with pytest.raises(ConnectFailed) as caught:
        ask(make(url))
    assert (caught.value.sent, caught.value.retryable) == (False, True)


def test_a_name_without_address_is_a_connect_failure(make: Make) -> None:
    """Name lookup belongs to connecting."""
    with pytest.raises(ConnectFailed):
        ask(make("http://no-such-host.invalid"))


def test_a_connection_that_is_not_accepted_is_a_connect_failure(make: Make) -> None:
    """The connect step has its own timeout."""
    with unanswered() as port, pytest.raises(ConnectFailed) as caught:
        ask(make(f"http://127.0.0.1:{port}", config=QUICK))
    assert not caught.value.sent


def test_a_silent_handshake_is_a_connect_failure(make: Make) -> None:
    """The TLS handshake belongs to the connect step."""
    with hostile(never_answers()) as service, pytest.raises(ConnectFailed):
        ask(make(f"https://127.0.0.1:{service.port}", config=QUICK))


@pytest.mark.parametrize(
    "behaviour",
    [never_answers(), hangs_after(CUT_HEAD), hangs_after(CUT_LENGTH), hangs_after(CUT_CHUNKED)],
    ids=["nothing", "head", "body", "chunks"],
)
def test_silence_beyond_the_read_timeout_is_an_attempt_timeout(make: Make, behaviour: Callable[..., None]) -> None:
    """The call may be retried: its deadline is far."""
    with hostile(behaviour) as service:
        with pytest.raises(AttemptTimeout) as caught:
            ask(make(service.url), read_timeout=0.05)
        assert caught.value.sent
        assert service.wait_for(lambda seen: seen.open == 0), "the connection must be closed, not kept dirty"


def test_a_slow_body_ends_at_the_deadline(make: Make) -> None:
    """Each byte is within the read timeout, all of them are not within the deadline."""
    with hostile(drips_body()) as service:
        with pytest.raises(DeadlineExceeded):
            ask(make(service.url), deadline=0.2)
        assert service.wait_for(lambda seen: seen.open == 0)


@pytest.mark.parametrize("behaviour", [drips_head(), drips_chunk_size()], ids=["head", "chunk size"])
def test_a_slow_head_ends_at_the_deadline(make_own: Make, behaviour: Callable[..., None]) -> None:
    """httpx's own transport would read it for ever."""
    with hostile(behaviour) as service:
        with pytest.raises(DeadlineExceeded) as caught:
            ask(make_own(service.url), deadline=0.2)
        assert caught.value.sent
        assert service.wait_for(lambda seen: seen.open == 0)


def test_a_request_that_is_never_read_ends_at_the_deadline(make: Make) -> None:
    """Writing waits too."""
    with hostile(never_reads()) as service, pytest.raises(DeadlineExceeded):
        ask(make(service.url), request(b"x" * (64 << 20)), deadline=0.2)


def test_an_expired_deadline_sends_nothing(make: Make) -> None:
    """Not even a connection is opened."""
    with hostile(answers()) as service:
        with pytest.raises(DeadlineExceeded) as caught:
            ask(make(service.url), deadline=0.0)
        assert not caught.value.sent
        assert service.seen == 0


def test_a_full_pool_is_not_the_endpoints_fault(make: Make) -> None:
    """It is the client's own backpressure, and nothing was sent."""
    with hostile(hangs_after(CUT_LENGTH)) as service:
        transport = make(service.url, connections=1)
        holder = sent(transport)
        with pytest.raises(BulkheadFull) as caught:
            ask(transport, deadline=0.1)
        assert (caught.value.sent, caught.value.endpoint_fault) == (False, False)
        holder.close()


def test_a_reply_larger_than_the_limit_is_refused(make: Make) -> None:
    """Counted while it arrives, announced or not."""
    config = ClientConfig(wire=WireConfig(max_reply_bytes=100_000))
    for data in (reply(b"x" * 100_001), chunked(b"x" * 60_000, b"x" * 60_000)):
        with hostile(cuts_after(data)) as service:
            with pytest.raises(DecodeError, match="larger than 100000 bytes") as caught:
                ask(make(service.url, config=config))
            assert not caught.value.retryable


def test_a_gzip_bomb_is_stopped_at_the_limit(make: Make) -> None:
    """A gigabyte of zeros costs the limit, in steps of 64 KiB."""
    config = ClientConfig(wire=WireConfig(max_reply_bytes=1 << 20))
    with hostile(bomb()) as service:
        taken = 0
        with pytest.raises(DecodeError, match="larger than"):  # noqa: PT012
            for piece in sent(make(service.url, config=config)).chunks():
                assert len(piece) <= 64 << 10
                taken += len(piece)
        assert taken <= 1 << 20
        assert service.wait_for(lambda seen: seen.open == 0)


def test_an_unknown_content_coding_is_refused(make: Make) -> None:
    """Only gzip was asked for."""
    odd = reply(b"x", headers=("Content-Encoding: br",))
    with hostile(answers(odd)) as service, pytest.raises(DecodeError, match="'br'"):
        ask(make(service.url))


def test_a_reply_left_unread_closes_its_connection(make: Make) -> None:
    """The rest of it must not be read as the next reply."""
    with hostile(hangs_after(CUT_LENGTH)) as service:
        transport = make(service.url)
        for _ in range(3):
            answer = sent(transport)
            answer.close()
            answer.close()
        assert service.wait_for(lambda seen: seen.open == 0)
        assert service.seen == 3


def test_a_closed_transport_sends_nothing(make: Make) -> None:
    """A second close does nothing."""
    with hostile(answers()) as service:
        transport = make(service.url)
        ask(transport)
        transport.close()
        transport.close()
        with pytest.raises(ClientClosed):
            ask(transport)
        assert service.wait_for(lambda seen: seen.open == 0)


@pytest.mark.parametrize("behaviour", [goes_stale(), refuses_stale()], ids=["closed", "reset"])
def test_a_stale_connection_is_replaced_without_an_error(make_own: Make, behaviour: Callable[..., None]) -> None:
    """Servers close idle connections."""
    with hostile(behaviour) as service:
        transport = make_own(service.url)
        assert [ask(transport)[0] for _ in range(5)] == [200] * 5
        assert service.seen == 5


def test_a_failure_on_a_new_connection_is_not_retried_here(make_own: Make) -> None:
    """The retry policy decides."""
    with hostile(cuts_after(b"")) as service:
        with pytest.raises(TransportError):
            ask(make_own(service.url))
        assert service.seen == 1


@pytest.mark.parametrize(
    "behaviour",
    [hangs_after(b""), hangs_after(CUT_HEAD), hangs_after(CUT_LENGTH), hangs_after(b"HTTP/1.1 200 OK\r\n\r\nbytes")],
    ids=["first byte", "head", "body", "body without length"],
)
def test_closing_wakes_threads_that_read(make_own: Make, behaviour: Callable[..., None]) -> None:
    """They get `ClientClosed`: neither a reset nor a body that looks complete."""
    with hostile(behaviour) as service, ThreadPoolExecutor(8) as threads:
        transport = make_own(service.url)
        waiting = [threads.submit(ask, transport) for _ in range(8)]
        assert service.wait_for(lambda seen: len(seen.requests) == 8)
        transport.close()
        assert {type(each.exception(timeout=30)) for each in waiting} == {ClientClosed}
        assert transport.stats().in_use == 0


def test_closing_wakes_threads_that_connect_or_wait_for_a_slot(make_own: Make) -> None:
    """None stays in a handshake or in the queue for a connection."""
    with hostile(never_answers()) as service, ThreadPoolExecutor(4) as threads:
        transport = make_own(f"https://127.0.0.1:{service.port}", connections=2)
        waiting = [threads.submit(ask, transport) for _ in range(4)]
        assert service.wait_for(lambda seen: seen.seen == 2)
        transport.close()
        assert {type(each.exception(timeout=30)) for each in waiting} == {ClientClosed}


def test_closing_wakes_a_thread_whose_connect_is_unanswered(make_own: Make) -> None:
    """A lost SYN does not hold it."""
    with unanswered() as port, ThreadPoolExecutor(1) as threads:
        transport = make_own(f"http://127.0.0.1:{port}", config=ClientConfig(timeouts=TimeoutConfig(connect=60.0)))
        waiting = threads.submit(ask, transport)
        while not transport.stats().opened:
            threading.Event().wait(0.001)
        threading.Event().wait(0.05)
        transport.close()
        assert isinstance(waiting.exception(timeout=30), ClientClosed)


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("connect", {"ConnectFailed"}),
        ("handshake", {"ConnectFailed"}),
        ("write", {"AttemptTimeout", "TransportError"}),
        ("silent", {"AttemptTimeout"}),
        ("head", {"AttemptTimeout"}),
        ("body", {"AttemptTimeout"}),
        ("cut", {"TransportError", "AttemptTimeout"}),
        ("slot", {"BulkheadFull", "DeadlineExceeded"}),
    ],
)
def test_a_thousand_failures_leave_every_slot_free(make_own: Make, phase: str, expected: set[str]) -> None:
    """In each phase; then the pool works as if new."""
    slots = 4
    quick = ClientConfig(timeouts=TimeoutConfig(connect=0.003 if phase in ("connect", "handshake") else 30.0))
    body = b"x" * (4 << 20) if phase == "write" else b"{}"
    rounds = 200 if phase == "write" else 1000
    with (
        hostile(_fails_as_asked()) as service,
        unanswered() as black_hole,
        hostile(never_answers()) as silent,
        hostile(_reads_little()) as full,
    ):
        transport = make_own(
            {
                "connect": f"http://127.0.0.1:{black_hole}",
                "handshake": f"https://127.0.0.1:{silent.port}",
                "write": full.url,
            }.get(phase, service.url),
            connections=slots,
            config=quick,
        )
        holders = [sent(transport, request(X_Phase="body")) for _ in range(slots)] if phase == "slot" else []

        def one(_: int) -> str:
            deadline = 0.003 if phase == "slot" else 60.0
            try:
                ask(transport, request(body, X_Phase=phase), deadline=deadline, read_timeout=0.003)
            except CosyError as error:
                return type(error).__name__
            return "fine"

        with ThreadPoolExecutor(slots * 2) as threads:
            ends = set(threads.map(one, range(rounds)))
        assert ends <= expected
        assert transport.stats().in_use == len(holders)
        for holder in holders:
            holder.close()
        if phase in ("connect", "handshake", "write"):
            # Such a service gives no reply, but each of its slots can be acquired.
            assert {one(number) for number in range(slots)} <= expected
            return
        held = [sent(transport, request(X_Phase="body")) for _ in range(slots)]
        assert transport.stats().in_use == slots
        for answer in held:
            answer.close()
        assert [ask(transport, request(X_Phase="fine"))[0] for _ in range(2 * slots)] == [200] * 2 * slots


def _reads_little() -> Callable[[ServedConnection], None]:
    """Take a little of each request; reset after a while, or the unsent megabytes would stay in the kernel."""

    def behave(connection: ServedConnection) -> None:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.pause(0.1)
        connection.reset()

    return behave


def _fails_as_asked() -> Callable[[ServedConnection], None]:
    def behave(connection: ServedConnection) -> None:
        while (received := connection.request()) is not None:
            phase = received.headers["x-phase"]
            if phase == "fine":
                connection.send(reply())
            elif phase == "cut":
                connection.send(CUT_LENGTH)
                return
            else:
                connection.send({"silent": b"", "head": CUT_HEAD, "body": CUT_LENGTH}[phase])
                connection.until_closed()

    return behave

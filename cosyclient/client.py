"""The client: `CosyClient`, one object per program, with plain blocking calls.

```python
from cosyclient import CosyClient

with CosyClient("https://tts.example.com", voice="中文女") as cosy:
    speech = cosy.synthesize("Hello, world.", format="wav", timeout=10)  # waits for one text
    future = cosy.submit("How are you?")  # does not wait
    wavs = cosy.batch_synth(["One.", "Two."])  # a list of bytes, in order
    print(speech.format, future.result().format, len(wavs))  # wav wav 2

    night = cosy.with_options(priority="bulk", speed=0.9)  # the same pool and quota, other defaults
    outcomes = night.synthesize_many(["Three.", " "])  # lazy, in order; a bad text does not end it
    print([type(outcome.error).__name__ for outcome in outcomes])  # ['NoneType', 'BadUtterance']
```
"""

from __future__ import annotations

import contextvars
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from cosyclient.clock import Clock, Mailbox, SystemClock
from cosyclient.config.records import check_number
from cosyclient.config.resolve import DOCUMENTED_RATE, resolve
from cosyclient.errors import BadUtterance, ClientClosed, ConfigurationError, CosyError, PartialFailure, Rejected
from cosyclient.events import Events, Listener, invoke_callback
from cosyclient.models import Outcome, Speech
from cosyclient.pipeline.admission import CallOptions
from cosyclient.pipeline.queue.waiters import SpeechFuture
from cosyclient.pipeline.shared import SharedPipeline
from cosyclient.protocols.base import VoiceUpload
from cosyclient.voices import MAX_NAME, Voice, check_words

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor, Future

    import httpx

    from cosyclient.config.records import ClientConfig
    from cosyclient.models import Priority, SpeechOptions, StreamOptions
    from cosyclient.pipeline.admission import Admission
    from cosyclient.pipeline.calls.stream import SpeechStream
    from cosyclient.pipeline.queue.waiters import Waiter
    from cosyclient.pipeline.stats import ClientStats
    from cosyclient.transports.base import Transport


class CosyClient:
    """Turn texts into speech with plain blocking calls, as fast as the service's quota allows.

    Make one per program and share it between threads: equal settings share requests. Making one starts no thread and
    opens no socket, and one made before ``fork()`` works in every child. Use it as a context manager or `close` it.

    What is left out is read from the environment (``COSYCLIENT_BASE_URL``, ``COSYCLIENT_API_KEY`` and so on, one
    variable an argument), or has its default; an explicit argument wins.

    *protocol* is how the service is spoken to (``batch``, ``openai``, ``runtime``, …; ``openai:xinference`` names a
    dialect), by default what *base_url* can only mean, else ``batch``.

    *format* (``wav``), *sample_rate* (24,000 Hz) and *speed* (1.0) are defaults of every call. *on_silent* says what
    becomes of a text of punctuation or emoji only, of which the service makes no audio: an ``"error"`` (a `DecodeError`
    that is not tried again), or a short ``"silence"`` in its place. *headers* are sent along with every request, and
    *extra* holds members that the service knows and this library does not; those of a call are laid over them.

    *requests_per_second* (100) and *max_connections* (50) are the service's documented quota for one address;
    ``requests_per_second=None`` is no quota, as a server of your own has none: nothing is paced then. *concurrency* is
    the number of requests in flight, by default what Little's Law makes of rate and expected latency, without a quota
    *max_connections*. *max_batch* (64) is the most texts of one request, *max_retries* (3) the tries after the first.
    *timeout* is in seconds for one text, by default 30 s and one more per 20 code points, in bulk calls 10 minutes and
    one more per second of audio that the call has under way.

    *verify* is whom TLS is to trust: True, the path of a CA file or directory, an ``ssl.SSLContext``, or False. *proxy*
    is an HTTP or SOCKS 5 proxy, ``http://user:password@host:port`` or ``socks5://…``. Where one of these is not given,
    and unless *trust_env* is False, the environment says so: SSL_CERT_FILE, SSL_CERT_DIR, REQUESTS_CA_BUNDLE and
    CURL_CA_BUNDLE; HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, which never concern this machine itself.

    *config* holds every other knob. *transport* is an httpx transport of your own (such as ``httpx.MockTransport``) or
    a `cosyclient.transports.base.Transport`. Each of *listeners* is called with every event, see `cosyclient.events`.

    Raises `ConfigurationError` naming the argument and the rule it breaks.
    """

    # Seams for `cosyclient.testing`; programs leave them alone.
    _clock: Clock = SystemClock()
    _executor: Executor | None = None

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        protocol: str | None = None,
        model: str | None = None,
        voice: str | Voice | None = None,
        format: str | None = None,
        sample_rate: int | None = None,
        speed: float | None = None,
        on_silent: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        requests_per_second: float | None = DOCUMENTED_RATE,
        max_connections: int | None = None,
        concurrency: int | None = None,
        max_batch: int | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        verify: bool | str | os.PathLike[str] | ssl.SSLContext | None = None,
        proxy: str | None = None,
        trust_env: bool | None = None,
        config: ClientConfig | None = None,
        transport: httpx.BaseTransport | Transport | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        settings = resolve(
            base_url=base_url,
            api_key=api_key,
            protocol=protocol,
            voice={
                "model": model,
                "voice": voice,
                "format": format,
                "sample_rate": sample_rate,
                "speed": speed,
                "on_silent": on_silent,
                "headers": headers,
                "extra": extra,
            },
            requests_per_second=requests_per_second,
            max_connections=max_connections,
            concurrency=concurrency,
            max_batch=max_batch,
            timeout=timeout,
            max_retries=max_retries,
            verify=verify,
            proxy=proxy,
            trust_env=trust_env,
            config=config,
        )
        self._shared = SharedPipeline(settings, transport, Events(listeners), self._clock, self._executor)
        self._defaults = CallOptions(self._shared.settings.voice, None, bulk=False)
        self._priority: Priority | None = None
        self._owner = True

    def synthesize(self, text: str, **options: Unpack[SpeechOptions]) -> Speech:
        """Return the speech of *text*, sharing requests with whatever other threads ask for meanwhile.

        *options*, here and in every other call, are those of `SpeechOptions`; an unknown one is a `ConfigurationError`.
        Raises `BadUtterance` before anything is sent, `DeadlineExceeded`, a `Rejected` when the client itself says no,
        and what the service or the wire did otherwise; see `cosyclient.errors`.
        """
        call = self._begin_call(options)
        admission = self._shared.pipeline().admission
        admission.check_may_block()
        result = admission.run(text, call)
        if isinstance(result, Speech):
            return result
        try:
            raise result
        finally:
            # The error's traceback holds this frame: a name for the error in it would be a cycle.
            del result

    def submit(
        self, text: str, on_done: Callable[[Outcome], object] | None = None, **options: Unpack[SpeechOptions]
    ) -> Future[Speech]:
        """Send *text* on its way and return its future; it resolves by the call's deadline, come what may.

        *on_done* is called with the `Outcome` in the caller's context variables, on one of the client's threads: keep
        it short, and of the client call only `submit` there. Blocks only while the client's queue is full. Raises like
        `synthesize` for what is refused at once.
        """
        call = self._begin_call(options)
        admission = self._shared.pipeline().admission
        future = SpeechFuture(admission.abandon)
        if on_done is not None:
            context = contextvars.copy_context()
            future.add_done_callback(lambda done: invoke_callback(context.run, on_done, _future_outcome(text, done)))
        admission.submit(text, call, future)
        return future

    def stream(self, text: str, **options: Unpack[StreamOptions]) -> SpeechStream:
        """Return *text*'s samples as they arrive, as soon as the first are there; a context manager.

        Signed 16-bit little-endian chunks at the stream's ``sample_rate``. Tried again until the first samples have
        come, never after. Raises like `synthesize`, and `BadUtterance` where the protocol cannot stream.
        """
        call = self._plain(options)
        pipeline = self._shared.pipeline()
        pipeline.admission.check_may_block()
        return pipeline.stream(text, call)

    def stream_text(self, texts: Iterable[str], **options: Unpack[StreamOptions]) -> SpeechStream:
        """Return the samples of a text that is still being written, such as a language model's tokens.

        Nothing is sent before *texts* yields the first words; from then on a thread pulls from it and sends each piece
        when the one before has left. The service cuts the sentences. A service waits for its writer a short while only
        (Model Studio 23 s). What *texts* raises is the cause of a `Rejected` that the iteration ends with, once what
        was written is spoken. Closing early stops both sides. Without a timeout a conversation may last an hour.
        Raises like `stream`, and `BadUtterance` where the protocol takes whole texts only.
        """
        if isinstance(texts, (str, bytes)):
            raise ConfigurationError("texts: must be pieces of a text; for a whole one use stream")
        call = self._plain(options)
        pipeline = self._shared.pipeline()
        pipeline.admission.check_may_block()
        return pipeline.duplex(texts, call)

    def _plain(self, options: StreamOptions) -> CallOptions:
        wanted = cast("SpeechOptions", options)
        if (asked := wanted.setdefault("format", "pcm")) != "pcm":
            raise BadUtterance(f"format: a stream is plain samples ('pcm'), not {asked!r}; use synthesize for files")
        return self._begin_call(wanted)

    def synthesize_many(
        self, texts: Iterable[str], *, ordered: bool = True, **options: Unpack[SpeechOptions]
    ) -> Generator[Outcome, None, None]:
        """Yield an `Outcome` per text, reading *texts* only as fast as they are consumed.

        Lazy in and out: an endless generator works in constant memory. In the order of the texts, or with
        ``ordered=False`` as they finish. One bad text is one failed outcome; only `ClientClosed` and a fault of the
        *texts* iterator itself are raised. Closing the iterator early takes back what has not left yet. While the
        service is down the texts wait for it, until their deadline or as ``RetryConfig.wait_for_service`` says.
        """
        call = self._call_options(options, bulk=True)
        admission = self._shared.pipeline().admission
        admission.check_may_block()
        feed = _feed(texts, self._shared.settings.max_batch)
        run = self._in_order if ordered else self._as_finished
        return run(admission, feed, call)

    def batch_synth(self, texts: Iterable[str], **options: Unpack[SpeechOptions]) -> list[bytes]:
        """Return the audio of all *texts*, in their order: the drop-in call.

        Raises `PartialFailure` when any of them failed; it carries every speech that was finished and every error.
        """
        if isinstance(texts, (str, bytes)):
            raise ConfigurationError("texts: must be several texts; for one use synthesize")
        wanted = list(texts)
        outcomes: list[Outcome] = []
        try:
            outcomes.extend(self.synthesize_many(wanted, **options))
        except ClientClosed as closed:
            # Closed by another thread: what was finished before is still the caller's.
            outcomes.extend(Outcome(n, wanted[n], error=closed) for n in range(len(outcomes), len(wanted)))
        failed = [outcome for outcome in outcomes if outcome.error is not None]
        if failed:
            first = failed[0]
            raise PartialFailure(
                f"{len(failed)} of {len(outcomes)} texts failed; the first is number {first.index}: "
                f"{type(first.error).__name__}: {first.error}",
                outcomes=outcomes,
            ) from first.error
        return [outcome.unwrap().audio for outcome in outcomes]

    def with_options(self, **overrides: Unpack[SpeechOptions]) -> CosyClient:
        """Return a view with other default options; it shares pool, quota and policies, and costs next to nothing.

        Closing the view closes nothing: the client it came from owns the connections.
        """
        view = object.__new__(type(self))
        view._shared, view._owner = self._shared, False
        view._priority = priority = self._checked_priority(overrides)
        view._defaults = self._call_options(overrides)._replace(bulk=priority == "bulk")
        return view

    def voices(self) -> list[str]:
        """Return the names of the voices the service lists; raises `BadUtterance` where its protocol cannot ask."""
        pipeline = self._shared.pipeline()
        pipeline.admission.check_may_block()
        return pipeline.voices(self._defaults.settings.sent_headers)

    def upload_voice(self, voice: Voice, name: str, *, consent: str | None = None) -> Voice:
        """Have the service keep a recorded *voice* under *name*; return the voice to ask for from now on.

        *consent* tells of the speaker's, where a service wants to know (vLLM-Omni). Sent once: nothing is tried again
        that the service may have heard. Raises `BadUtterance` where the protocol keeps no voices.
        """
        if not isinstance(voice, Voice):
            raise BadUtterance(f"voice: must be a Voice, got {type(voice).__name__}; make one with Voice.clone")
        check_words("name", name, most=MAX_NAME)
        if consent is not None:
            check_words("consent", consent, most=MAX_NAME)
        pipeline = self._shared.pipeline()
        pipeline.admission.check_may_block()
        return Voice(pipeline.upload(VoiceUpload(voice, name, consent), self._defaults.settings.sent_headers))

    @property
    def window(self) -> int:
        """Return how many texts one bulk job should keep under way: enough to fill every request in flight."""
        return self._shared.window

    def stats(self) -> ClientStats:
        """Return a snapshot of what this client did and does in this process."""
        return self._shared.stats()

    def close(self, drain: bool = True) -> None:
        """Refuse new calls, finish what is under way (or fail it with ``drain=False``), let go of everything.

        Every future is resolved when this returns. A second call does nothing. In *on_done* only ``drain=False`` will
        do: anything else raises `ConfigurationError`, for it would wait for the thread it is called on.
        """
        if self._owner:
            self._shared.close(drain=drain)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Whoever leaves with an error does not want to wait half a minute for audio first.
        self.close(drain=kind is None)

    def __repr__(self) -> str:
        return f"<CosyClient {self._shared!r}>"

    def __reduce__(self) -> str:
        raise TypeError("a CosyClient holds threads and sockets and cannot be pickled; make one in each worker process")

    def _begin_call(self, options: SpeechOptions) -> CallOptions:
        """Return the options of a call that begins now: its deadline counts from here."""
        began = self._clock.now()
        settings, timeout, bulk, _ = self._call_options(options)
        return CallOptions(settings, timeout, bulk, began)

    def _call_options(self, options: SpeechOptions, *, bulk: bool = False) -> CallOptions:
        """Return the client's options with *options* over them; *bulk* is the kind of call where neither says."""
        defaults = self._defaults
        if not options and not bulk:
            return defaults
        priority = self._checked_priority(options)
        timeout = options.pop("timeout", defaults.timeout)
        if timeout is not None:
            check_number("timeout", timeout, low=0, above=True)
        settings = defaults.settings.replace(options) if options else defaults.settings
        if "headers" in options:
            # The caller's frame shows these in tracebacks: as what does not show their values.
            options["headers"] = settings.headers
        return CallOptions(settings, timeout, bulk if priority is None else priority == "bulk")

    def _checked_priority(self, options: SpeechOptions) -> Priority | None:
        priority = options.pop("priority", self._priority)
        if priority not in (None, "interactive", "bulk"):
            raise ConfigurationError(f"priority: must be 'interactive' or 'bulk', got {priority!r}")
        return priority

    def _in_order(
        self, admission: Admission, feed: Iterator[list[str]], call: CallOptions
    ) -> Generator[Outcome, None, None]:
        asked: deque[str] = deque()
        waiters: deque[Waiter] = deque()
        window, index = self._shared.bulk_window(call.settings), 0
        try:
            while True:
                while not admission.closing and window.has_room and (texts := next(feed, None)):
                    window.add(texts)
                    asked.extend(texts)
                    admission.submit_many(texts, call, audio=window.audio_seconds, into=waiters)
                if not waiters:
                    break
                result = admission.result_of(waiters[0])
                waiters.popleft()
                text = asked.popleft()
                yield _outcome(index, text, result)
                window.remove(text)
                index += 1
        finally:
            try:
                admission.undo(waiters)
            except BaseException:  # an interrupt amid the taking back: once more
                admission.undo(waiters)
                raise
        _refuse_rest(admission, feed)

    def _as_finished(
        self, admission: Admission, feed: Iterator[list[str]], call: CallOptions
    ) -> Generator[Outcome, None, None]:
        finished: Mailbox[Waiter] = Mailbox()
        waiting: dict[Waiter, tuple[int, str]] = {}
        fresh: list[Waiter] = []
        window, index = self._shared.bulk_window(call.settings), 0
        try:
            while True:
                while not admission.closing and window.has_room and (texts := next(feed, None)):
                    window.add(texts)
                    fresh = []
                    admission.submit_many(texts, call, audio=window.audio_seconds, into=fresh, notify=finished.put)
                    for text, waiter in zip(texts, fresh, strict=True):
                        waiting[waiter] = (index, text)
                        index += 1
                        admission.start_timer(waiter)
                if not waiting:
                    break
                done = finished.get()  # bounded: each is watched and resolves by its deadline
                assert done.result is not None  # noqa: S101 - it says so by being here
                position, text = waiting.pop(done)
                yield _outcome(position, text, done.result)
                window.remove(text)
        finally:
            try:
                admission.undo((*waiting, *fresh))
            except BaseException:  # an interrupt amid the taking back: once more
                admission.undo((*waiting, *fresh))
                raise
        _refuse_rest(admission, feed)


def _feed(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield *texts* in lists: what is at hand already by the batch, what is still being made one by one."""
    if isinstance(texts, (str, bytes)):
        raise ConfigurationError("texts: must be several texts; for one use synthesize")
    step = size if isinstance(texts, (list, tuple)) else 1
    source = iter(texts)
    return iter(lambda: list(islice(source, step)), [])


def _refuse_rest(admission: Admission, feed: Iterator[list[str]]) -> None:
    """Raise if texts are left that a closed client will not take: a silent end would look like success."""
    if admission.closing and next(feed, None):
        raise ClientClosed("the client was closed before all texts were read")


def _outcome(index: int, text: str, result: Speech | BaseException) -> Outcome:
    if isinstance(result, Speech):
        return Outcome(index, text, speech=result)
    return Outcome(index, text, error=result if isinstance(result, CosyError) else CosyError(str(result)))


def _future_outcome(text: str, done: Future[Speech]) -> Outcome:
    if done.cancelled():
        return Outcome(0, text, error=Rejected("cancelled by its caller"))
    return _outcome(0, text, done.exception() or done.result())

"""The client: `CosyClient`, one object per program, with plain blocking calls.

```python
from cosyclient import CosyClient

with CosyClient("https://tts.example.com", voice="中文女") as cosy:
    speech = cosy.synthesize("Hello, world.", format="wav", timeout=10)  # waits for one text
    future = cosy.submit("How are you?")  # does not wait
    wavs = cosy.batch_synth(["One.", "Two."])  # a list of bytes, in order
    print(speech.format, future.result().format, len(wavs))  # wav wav 2

    night = cosy.with_options(priority="bulk", speed=0.9)  # the same pool and quota, other defaults
    outcomes = night.synthesize_many(["Three.", " "])  # lazy, in order; a bad text is one failed outcome
    print([type(outcome.error).__name__ for outcome in outcomes])  # ['NoneType', 'BadUtterance']
```
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from cosyclient.clock import Clock, SystemClock
from cosyclient.config.records import check_number
from cosyclient.config.resolve import DOCUMENTED_RATE, resolve
from cosyclient.errors import BadUtterance, ClientClosed, ConfigurationError, PartialFailure, Rejected
from cosyclient.events import Events, Listener, invoke_callback
from cosyclient.models import Outcome, Speech
from cosyclient.pipeline.admission import CallOptions
from cosyclient.pipeline.bulk import as_finished, check_iterable, check_texts, in_batches, in_order, outcome_of
from cosyclient.pipeline.queue.pending import SpeechFuture
from cosyclient.pipeline.shared import SharedPipeline
from cosyclient.protocols.base import VoiceUpload
from cosyclient.voices import MAX_NAME, Voice, check_short_text

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from concurrent.futures import Executor, Future

    import httpx

    from cosyclient.config.records import ClientConfig
    from cosyclient.models import Priority, SpeechOptions, StreamOptions
    from cosyclient.pipeline.calls.stream import SpeechStream
    from cosyclient.pipeline.stats import ClientStats
    from cosyclient.transports.base import Transport


class CosyClient:
    """Turn texts into speech with plain blocking calls, as fast as the service's quota allows.

    Make one per program and share it between threads: texts with equal settings share requests. The constructor starts
    no thread and opens no socket, and a client made before ``fork()`` works in every child. Use it as a context manager
    or call `close`.

    An argument that is left out is read from the environment (``COSYCLIENT_BASE_URL``, ``COSYCLIENT_API_KEY`` and so
    on, one variable for each argument) or has its default.

    *protocol* is the service's protocol (``batch``, ``openai``, ``runtime``, …; ``openai:xinference`` names a dialect),
    by default the one that *base_url* implies, else ``batch``.

    *format* (``wav``), *sample_rate* (24,000 Hz) and *speed* (1.0) are defaults of every call. *on_silent* is the
    result of a text for which the service makes no audio, such as one of punctuation or emoji only: an ``"error"`` (a
    `DecodeError` that is not tried again), or a short ``"silence"``. *headers* are sent with every request, and *extra*
    holds members that the service knows and this library does not; those of a call override them one by one.

    *requests_per_second* (100) and *max_connections* (50) are the service's documented quota for one address;
    ``requests_per_second=None`` is no quota, as for a server of your own: requests are not paced then. *concurrency* is
    the number of requests in flight, by default computed from rate and expected latency by Little's Law, without a
    quota *max_connections*. *max_batch* (64) is the most texts of one request, *max_retries* (3) the tries after the
    first. *timeout* is in seconds for one text, by default 30 s and one more per 20 code points, in bulk calls 10
    minutes and one more per second of audio that the call has under way.

    *verify* is what TLS trusts: True, the path of a CA file or directory, an ``ssl.SSLContext``, or False. *proxy* is
    an HTTP or SOCKS 5 proxy, ``http://user:password@host:port`` or ``socks5://…``. Where one of these is not given, and
    unless *trust_env* is False, the environment counts: SSL_CERT_FILE, SSL_CERT_DIR, REQUESTS_CA_BUNDLE and
    CURL_CA_BUNDLE; HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, which never apply to this machine itself.

    *config* holds every other setting. *transport* is an httpx transport (such as ``httpx.MockTransport``) or a
    `cosyclient.transports.base.Transport`. Each of *listeners* is called with every event, see `cosyclient.events`.

    Raises `ConfigurationError` naming the argument and the rule it breaks.
    """

    # Replaced by `cosyclient.testing`; not for programs.
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
        """Return the speech of *text*; texts of other threads may be sent in the same request.

        *options*, here and in every other call, are those of `SpeechOptions`; an unknown one is a `ConfigurationError`.
        Raises `BadUtterance` before anything is sent, `DeadlineExceeded`, a `Rejected` when the client itself refuses,
        a `ServiceError`, `TransportError` or `DecodeError` otherwise; see `cosyclient.errors`.
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
            # The error's traceback holds this frame, so a local variable for the error would make a reference cycle.
            del result

    def submit(
        self, text: str, on_done: Callable[[Outcome], object] | None = None, **options: Unpack[SpeechOptions]
    ) -> Future[Speech]:
        """Queue *text* and return its future, which always resolves by the call's deadline.

        *on_done* is called with the `Outcome` in the caller's context variables, on one of the client's threads: keep
        it short, and call no other method of the client there than `submit`. Blocks only while the client's queue is
        full. Raises like `synthesize` what is refused at once.
        """
        if on_done is not None and not callable(on_done):
            raise ConfigurationError(f"on_done: must be a function of one Outcome, got {type(on_done).__name__}")
        call = self._begin_call(options)
        admission = self._shared.pipeline().admission
        future = SpeechFuture(admission.abandon)
        if on_done is not None:
            context = contextvars.copy_context()
            # Within the context, so that what it raises is logged under its own name.
            future.add_done_callback(lambda _: context.run(invoke_callback, on_done, _future_outcome(text, future)))
        admission.submit(text, call, future)
        return future

    def stream(self, text: str, **options: Unpack[StreamOptions]) -> SpeechStream:
        """Return a stream of *text*'s samples once the first have arrived; a context manager.

        Signed 16-bit little-endian chunks at the stream's ``sample_rate``. Tried again until the first samples have
        come, never after. Raises like `synthesize`, and `BadUtterance` where the protocol cannot stream.
        """
        call = self._begin_stream(options)
        pipeline = self._shared.pipeline()
        pipeline.admission.check_may_block()
        return pipeline.stream(text, call)

    def stream_text(self, texts: Iterable[str], **options: Unpack[StreamOptions]) -> SpeechStream:
        """Return the samples of a text that is still being written, such as a language model's tokens.

        Nothing is sent before *texts* yields its first piece; from then on a thread reads *texts* and sends each piece
        when the one before is written. The service splits the text into sentences, and waits only a short while for the
        next piece (Model Studio 23 s). An error that *texts* raises becomes the cause of a `Rejected`, which the
        iteration raises after the audio of what was written. Closing the stream stops reading and writing. Without a
        timeout it may last an hour. Raises like `stream`, and `BadUtterance` where the protocol takes whole texts only.
        """
        check_iterable(texts, "pieces of a text", one="for a whole one use stream")
        call = self._begin_stream(options)
        pipeline = self._shared.pipeline()
        pipeline.admission.check_may_block()
        return pipeline.duplex(texts, call)

    def _begin_stream(self, options: StreamOptions) -> CallOptions:
        speech_options = cast("SpeechOptions", options)
        if (format := speech_options.setdefault("format", "pcm")) != "pcm":
            raise BadUtterance(f"format: a stream is plain samples ('pcm'), not {format!r}; use synthesize for files")
        return self._begin_call(speech_options)

    def synthesize_many(
        self, texts: Iterable[str], *, ordered: bool = True, **options: Unpack[SpeechOptions]
    ) -> Generator[Outcome, None, None]:
        """Yield an `Outcome` per text, reading *texts* only as fast as they are consumed.

        Lazy in and out: an endless generator works in constant memory. In the order of the texts, or with
        ``ordered=False`` as they finish. One bad text is one failed outcome; only `ClientClosed` and what the iterator
        *texts* itself raises are raised. Closing the generator early cancels what has not been sent yet. While the
        service is down the texts wait for it, until their deadline or for ``RetryConfig.wait_for_service`` seconds.
        """
        call = self._call_options(options, bulk=True)
        admission = self._shared.pipeline().admission
        admission.check_may_block()
        batches = in_batches(texts, self._shared.settings.max_batch)
        run = in_order if ordered else as_finished
        return run(admission, batches, call, self._shared.bulk_window(call.settings))

    def batch_synth(self, texts: Iterable[str], **options: Unpack[SpeechOptions]) -> list[bytes]:
        """Return the audio of all *texts* as a list, in their order.

        Raises `PartialFailure` when any of them failed; it holds every finished speech and every error.
        """
        check_texts(texts)
        wanted = list(texts)
        outcomes: list[Outcome] = []
        try:
            outcomes.extend(self.synthesize_many(wanted, **options))
        except ClientClosed as closed:
            # Another thread closed the client; what finished before is still returned.
            outcomes.extend(Outcome(n, wanted[n], error=closed) for n in range(len(outcomes), len(wanted)))
        failed = [outcome for outcome in outcomes if outcome.error is not None]
        if failed:
            first = failed[0]
            raise PartialFailure(
                f"{len(failed)} of {len(outcomes)} texts failed; the first is index {first.index}: "
                f"{type(first.error).__name__}: {first.error}",
                outcomes=outcomes,
            ) from first.error
        return [outcome.unwrap().audio for outcome in outcomes]

    def with_options(self, **overrides: Unpack[SpeechOptions]) -> CosyClient:
        """Return a client with other default options that shares this one's connections, quota and policies.

        It is cheap to make. Closing it closes nothing: this client owns the connections.
        """
        view = object.__new__(type(self))
        view._shared, view._owner = self._shared, False
        view._priority = priority = self._checked_priority(overrides)
        view._defaults = self._call_options(overrides)._replace(bulk=priority == "bulk")
        return view

    def voices(self) -> list[str]:
        """Return the names of the service's voices; raises `BadUtterance` where its protocol cannot list them."""
        pipeline = self._shared.pipeline()
        pipeline.admission.check_may_block()
        return pipeline.voices(self._defaults.settings.checked_headers)

    def upload_voice(self, voice: Voice, name: str, *, consent: str | None = None) -> Voice:
        """Store a recorded *voice* at the service under *name*; return the voice to use from now on.

        *consent* states the speaker's consent, where a service asks for it (vLLM-Omni). Sent once: what the service may
        have received is not tried again. Raises `BadUtterance` where the protocol stores no voices.
        """
        if not isinstance(voice, Voice):
            raise BadUtterance(f"voice: must be a Voice, got {type(voice).__name__}; make one with Voice.clone")
        check_short_text("name", name, max_length=MAX_NAME)
        if consent is not None:
            check_short_text("consent", consent, max_length=MAX_NAME)
        pipeline = self._shared.pipeline()
        pipeline.admission.check_may_block()
        return Voice(pipeline.upload(VoiceUpload(voice, name, consent), self._defaults.settings.checked_headers))

    @property
    def window(self) -> int:
        """Return how many texts a bulk job should keep submitted: enough to fill every request in flight."""
        return self._shared.window

    def stats(self) -> ClientStats:
        """Return a snapshot of this client's counters in this process."""
        return self._shared.stats()

    def close(self, drain: bool = True) -> None:
        """Refuse new calls, finish those under way (or fail them with ``drain=False``), and close all connections.

        Every future is resolved when this returns. A second call does nothing. Within *on_done* only ``drain=False`` is
        allowed; ``drain=True`` would wait for the thread it is called on, and raises `ConfigurationError`.
        """
        if self._owner:
            self._shared.close(drain=drain)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # On an error the block is left at once: draining could take half a minute.
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
        """Return the client's options overridden by *options*; *bulk* is the priority where neither names one."""
        defaults = self._defaults
        if not options and not bulk:
            return defaults
        priority = self._checked_priority(options)
        timeout = options.pop("timeout", defaults.timeout)
        if timeout is not None:
            check_number("timeout", timeout, low=0, above=True)
        settings = defaults.settings.replace(options) if options else defaults.settings
        if "headers" in options:
            # Tracebacks with local variables show the caller's dict: put in what has no values in its repr.
            options["headers"] = settings.headers
        return CallOptions(settings, timeout, bulk if priority is None else priority == "bulk")

    def _checked_priority(self, options: SpeechOptions) -> Priority | None:
        priority = options.pop("priority", self._priority)
        if priority not in (None, "interactive", "bulk"):
            raise ConfigurationError(f"priority: must be 'interactive' or 'bulk', got {priority!r}")
        return priority


def _future_outcome(text: str, done: SpeechFuture) -> Outcome:
    return outcome_of(0, text, done.ended_with or Rejected("cancelled by its caller"))

"""A blocking, thread-pooled client for CosyVoice speech synthesis.

`CosyClient` turns texts into audio with plain blocking calls. Batching, pacing, the connection pool, retries and the
circuit breaker are built in.

```python
from cosyclient import CosyClient

with CosyClient("https://tts.example.com") as cosy:  # the API key comes from COSYCLIENT_API_KEY
    cosy.synthesize("Hello, world.").save("hello.wav")
    for outcome in cosy.synthesize_many(["One.", "Two."], speed=1.2):  # lazy, in order
        outcome.unwrap().save(f"{outcome.index}.wav")
```

What each module is for:

- `cosyclient.client`: `CosyClient` and its calls.
- `cosyclient.models`: texts, options, speeches and outcomes. `cosyclient.voices`: voices by name and from recordings.
- `cosyclient.config`: every setting. `cosyclient.errors`: every error. `cosyclient.events`: what listeners receive.
- `cosyclient.audio`: audio formats without a decoder.
- `cosyclient.testing` and `cosyclient.emulator`: fakes, and a whole service on this machine.
- `cosyclient.clock`, `cosyclient.wire`, `cosyclient.transports.base` and `cosyclient.protocols.base`: interfaces.
"""

from cosyclient.client import CosyClient
from cosyclient.config import (
    AdaptiveConfig,
    BreakerConfig,
    ClientConfig,
    HedgeConfig,
    PacingConfig,
    PoolConfig,
    QueueConfig,
    RetryConfig,
    TimeoutConfig,
    WireConfig,
)
from cosyclient.config.sizing import Sizing, littles_law
from cosyclient.errors import (
    Attempt,
    AttemptTimeout,
    BadRequest,
    BadUtterance,
    BulkheadFull,
    CircuitOpen,
    ClientClosed,
    ConfigurationError,
    ConnectFailed,
    CosyError,
    DeadlineExceeded,
    DecodeError,
    Forbidden,
    NotFound,
    PartialFailure,
    QueueFull,
    RateLimited,
    Rejected,
    RetryBudgetSpent,
    ServiceError,
    ServiceFault,
    Throttled,
    TooLarge,
    TransportError,
    Unauthorized,
)
from cosyclient.models import Outcome, Speech, SpeechOptions, StreamOptions, Word, join
from cosyclient.pipeline.calls.stream import SpeechStream
from cosyclient.pipeline.stats import ClientStats
from cosyclient.voices import Voice

__version__ = "0.1.0"

__all__ = [
    "AdaptiveConfig",
    "Attempt",
    "AttemptTimeout",
    "BadRequest",
    "BadUtterance",
    "BreakerConfig",
    "BulkheadFull",
    "CircuitOpen",
    "ClientClosed",
    "ClientConfig",
    "ClientStats",
    "ConfigurationError",
    "ConnectFailed",
    "CosyClient",
    "CosyError",
    "DeadlineExceeded",
    "DecodeError",
    "Forbidden",
    "HedgeConfig",
    "NotFound",
    "Outcome",
    "PacingConfig",
    "PartialFailure",
    "PoolConfig",
    "QueueConfig",
    "QueueFull",
    "RateLimited",
    "Rejected",
    "RetryBudgetSpent",
    "RetryConfig",
    "ServiceError",
    "ServiceFault",
    "Sizing",
    "Speech",
    "SpeechOptions",
    "SpeechStream",
    "StreamOptions",
    "Throttled",
    "TimeoutConfig",
    "TooLarge",
    "TransportError",
    "Unauthorized",
    "Voice",
    "WireConfig",
    "Word",
    "audio",
    "client",
    "clock",
    "config",
    "emulator",
    "errors",
    "events",
    "join",
    "littles_law",
    "models",
    "protocols",
    "testing",
    "transports",
    "voices",
    "wire",
]

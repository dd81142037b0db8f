"""The settings that `CosyClient` has no argument for: frozen records, one per concern, checked when they are made.

```python
from cosyclient import CosyClient
from cosyclient.config import BreakerConfig, ClientConfig, RetryConfig, TimeoutConfig
from cosyclient.errors import ConfigurationError

config = ClientConfig(
    retry=RetryConfig(initial=0.5, cap=10),
    breaker=BreakerConfig(failure_rate=0.3),
    timeouts=TimeoutConfig(connect=2),
)
with CosyClient("https://tts.example.com", config=config, max_retries=5) as cosy:
    cosy.synthesize("Hello.")

try:
    RetryConfig(initial=0)
except ConfigurationError as error:
    print(error)  # retry.initial: must be a number above 0, got 0
```
"""

from cosyclient.config.records import (
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

__all__ = [
    "AdaptiveConfig",
    "BreakerConfig",
    "ClientConfig",
    "HedgeConfig",
    "PacingConfig",
    "PoolConfig",
    "QueueConfig",
    "RetryConfig",
    "TimeoutConfig",
    "WireConfig",
]

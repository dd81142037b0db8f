"""Every option as a field of a frozen record, one record per concern."""

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

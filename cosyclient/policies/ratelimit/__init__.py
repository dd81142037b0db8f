"""Pacing: when the next request may be sent, and what refusals say about the quota."""

from cosyclient.policies.ratelimit.limiter import RateLimiter

__all__ = ["RateLimiter"]

"""What decides whether, when and how much is sent: each policy is shared by all threads and pure in ``now``.

One verb has one meaning in all of them:

- ``acquire``, ``try_acquire``, ``release``: a permit, held until it is released (`Bulkhead`, `Breaker`).
- ``withdraw``, ``deposit``: tokens, spent and earned (`RetryBudget`, `HedgePolicy`).
- ``reserve``, ``recheck``, ``cancel``: an instant at which a request may be sent (`RateLimiter`).
- ``start``, ``record_success``, ``record_failure``, ``record_throttled`` and the like: what became of an attempt.
- ``pause``, ``apply_quota``: what the service asked for (`RateLimiter`).

Only `Bulkhead.acquire` waits; the others return an instant, a number or an error at once.
"""

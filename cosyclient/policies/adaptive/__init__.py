"""How many attempts an endpoint may have in flight: as many as configured, fewer on evidence of overload.

Evidence is one of three things:

- Latency that has grown with what was in flight. Of the last 64 or so attempts at least half of the time was, beyond
  doubt (five standard errors), spent waiting for other attempts in flight; the next attempts alone show it once more;
  and attempts take longer than ``AdaptiveConfig.tolerance`` (2 s), or than a quarter of the time their texts were given
  if that is less (never less than the 0.4 s the pool was sized for, nor than twice what an attempt takes alone). A
  service that is slow, becomes slower, is jittery, of two speeds, or takes time by length is no evidence.
- Timeouts. Three requests in a row, where what was in flight takes longer than they were given at the rate at which
  audio comes back; or two that took longer than a second and than twice the usual latency while nothing was answered:
  then one attempt at a time until one is answered.
- Throttling: 429, ``RESOURCE_EXHAUSTED``, a Retry-After. Failures that come back at once are the breaker's part.

Then as much audio is kept in flight as the service renders in that time, in attempts of an eighth of that, and texts
that would come back too late let others go first. None is rejected for that: it is sent as soon as there is room, or
its caller gets `DeadlineExceeded` or `BulkheadFull` (not ``sent``) at its deadline. A limit that held nothing back for
two seconds is dropped.
"""

from cosyclient.policies.adaptive.limit import AdaptiveLimit, Sample

__all__ = ["AdaptiveLimit", "Sample"]

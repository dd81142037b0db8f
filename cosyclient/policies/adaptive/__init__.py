"""How many attempts an endpoint may have in flight: as configured, and fewer on evidence of overload."""

from cosyclient.policies.adaptive.limit import AdaptiveLimit, Sample

__all__ = ["AdaptiveLimit", "Sample"]

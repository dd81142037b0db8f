"""How many attempts an endpoint may have in flight: what was configured, less on evidence of overload."""

from cosyclient.policies.adaptive.limit import AdaptiveLimit, Sample

__all__ = ["AdaptiveLimit", "Sample"]

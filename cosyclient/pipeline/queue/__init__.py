"""Texts between admission and a request: pending, batched, coalesced, completed."""

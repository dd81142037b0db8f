"""How much of a quota is used when a real Envoy enforces it."""

"""HTTP over a pool of connections."""

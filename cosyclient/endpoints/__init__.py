"""One service instance: what it permits, what came of it."""

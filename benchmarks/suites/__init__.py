"""The benchmarks themselves; each has a ``run(options)``."""

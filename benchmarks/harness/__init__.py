"""What the benchmarks share: load, measurement, processes, services, tables and pictures."""

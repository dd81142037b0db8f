"""Benchmarks a stranger can repeat: ``python -m benchmarks list`` names them.

Each measures peers side by side in the same run, counts everybody's errors, states its warm-up and its repetitions,
prints one table, and writes JSON and a picture. They need the extra ``bench``.
"""

"""Benchmarks that anyone can repeat: ``python -m benchmarks list`` names them.

Each measures peers side by side in the same run, counts the errors of all of them, states its warm-up and its
repetitions, prints one table, and writes JSON and a picture. They need the extra ``bench``.

`suites` holds the benchmarks, `harness` what they share, `peers` the clients they compare; each knows only those below
it: suites, then harness, then peers.
"""

"""Tests of the benchmarks: what they count, what they report, and how they are laid out."""

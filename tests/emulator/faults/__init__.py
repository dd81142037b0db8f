"""Tests of ``cosyclient.emulator.faults``."""

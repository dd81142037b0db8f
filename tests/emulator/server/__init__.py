"""Tests of ``cosyclient.emulator.server``."""

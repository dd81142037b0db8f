"""Tests of ``cosyclient.emulator.core``."""

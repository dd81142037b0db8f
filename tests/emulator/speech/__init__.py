"""Tests of ``cosyclient.emulator.speech``."""

"""Tests of ``cosyclient.emulator.apis``."""

"""Tests of ``cosyclient.emulator.apis.triton``."""

"""Tests of ``cosyclient.emulator.apis.openai``."""

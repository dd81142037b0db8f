"""Tests of ``cosyclient.emulator.apis.batch``."""

"""Serve the emulator's APIs on sockets, in this process or in one of its own."""

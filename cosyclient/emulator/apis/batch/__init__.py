"""Serve the batch protocol, ``POST /batch``."""

"""Serve what OpenAI-compatible speech servers offer over HTTP."""

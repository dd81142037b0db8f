"""Serve what LightTTS offers, over HTTP and WebSocket."""

"""LightTTS over HTTP and WebSocket."""

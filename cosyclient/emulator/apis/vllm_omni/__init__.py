"""Serve what vLLM-Omni offers over WebSocket."""

"""vLLM-Omni's speech over WebSocket."""

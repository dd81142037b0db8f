"""Serve CosyVoice's Triton models, over HTTP and gRPC."""

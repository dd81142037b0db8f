"""Serve what CosyVoice's own runtime offers, over HTTP and gRPC."""

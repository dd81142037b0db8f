"""CosyVoice's official runtimes over HTTP and gRPC."""

"""CosyVoice behind Triton: the KServe v2 protocol over HTTP and gRPC."""

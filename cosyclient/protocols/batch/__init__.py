"""The batch protocol: up to 64 texts in one request."""

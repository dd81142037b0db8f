"""The HTTP transport: a pool of connections that are written and read here, or any httpx transport."""

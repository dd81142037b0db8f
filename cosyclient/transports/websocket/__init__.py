"""Sessions over a pool of WebSockets."""

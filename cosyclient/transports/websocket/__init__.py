"""The WebSocket transport: sessions of messages over a pool of WebSockets, whose text may still be written."""

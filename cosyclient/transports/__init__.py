"""The transports: one request, one reply, within a deadline, over whatever medium a protocol needs."""

__all__ = ["base"]

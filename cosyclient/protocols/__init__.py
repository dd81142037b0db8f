"""The wire protocols: bytes from utterances, speeches from bytes; no socket, no clock."""

__all__ = ["base"]

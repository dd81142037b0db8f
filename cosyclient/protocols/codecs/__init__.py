"""Formats that several protocols are written in: base64, JSON, forms, server-sent events, Protocol Buffers."""

"""Formats that several protocols are written in: base64, JSON, forms, server-sent events, Protocol Buffers.

Verbs: ``parse_`` raises `ValueError` (the caller knows what to say), ``decode_`` raises `DecodeError` (the reply is at
fault), ``read_`` consumes a reply, ``encode_`` makes bytes of a request. Nothing here knows a socket or a service.
"""

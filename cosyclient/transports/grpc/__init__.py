"""Calls over few shared gRPC channels."""

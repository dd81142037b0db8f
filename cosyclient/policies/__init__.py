"""The policies: each one small, pure in time, composed by the call."""

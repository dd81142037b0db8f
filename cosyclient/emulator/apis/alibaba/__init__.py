"""Serve what Alibaba Cloud offers: Model Studio over HTTP and WebSocket, and PAI-EAS."""

"""Serve what Alibaba Cloud offers: Model Renderer over HTTP and WebSocket, and PAI-EAS."""

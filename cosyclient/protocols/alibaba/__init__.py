"""Alibaba's services: Model Studio over WebSocket and HTTP, PAI-EAS."""

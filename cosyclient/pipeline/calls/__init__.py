"""Requests under way: workers, attempts, retries, streams, hedges."""

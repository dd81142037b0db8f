"""What a request costs as threads are added."""

"""What decides whether, when and how much is sent: each policy is shared, thread-safe and pure in `now`."""

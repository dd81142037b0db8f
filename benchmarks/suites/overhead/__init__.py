"""What the client itself costs."""

"""What audio costs between the wire and the caller."""

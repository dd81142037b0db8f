"""What adapting to a service does, where it keeps up and where it does not."""

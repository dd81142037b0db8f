"""What one client runs: admission, queue, calls, and what is counted meanwhile."""

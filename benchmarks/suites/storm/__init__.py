"""What a failing service receives from each client."""

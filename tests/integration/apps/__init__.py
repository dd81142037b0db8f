"""Web applications as their authors would write them."""

"""The transports: sockets, pools and their deadlines."""

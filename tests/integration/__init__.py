"""The library in its users' hands: real web servers, forked processes, interpreter exits."""

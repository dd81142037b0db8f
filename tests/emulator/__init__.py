"""The emulator against the definition of the batch protocol, over real sockets."""

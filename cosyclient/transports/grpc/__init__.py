"""The gRPC transport: calls of grpcio over few shared channels, each on a thread that no interrupt reaches."""

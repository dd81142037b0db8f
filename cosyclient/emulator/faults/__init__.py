"""Make the emulator fail on request: which faults there are, and how each is applied."""

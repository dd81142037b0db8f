"""What every API of the emulator shares: limits, GPU queue, counters, remembered replies, problems."""

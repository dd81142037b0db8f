"""Other people's clients against the emulator: what they understand is what the real services say."""

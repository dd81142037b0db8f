"""Small tools below everything else: files, numbers, redaction, timers."""

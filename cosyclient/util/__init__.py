"""Small tools below everything else: files, numbers, quoting, timers."""

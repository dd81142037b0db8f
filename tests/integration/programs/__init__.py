"""Scripts as their authors would write them; each prints what became of it as JSON."""

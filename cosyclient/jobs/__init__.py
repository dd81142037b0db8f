"""Bulk jobs from files: input, one run, its manifest."""

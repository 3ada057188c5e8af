"""Data: reading sources, splitting, checking and keeping prepared tables."""

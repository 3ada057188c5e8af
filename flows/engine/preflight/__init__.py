"""The whole method in miniature, before a long run."""

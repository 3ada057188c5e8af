"""Export: a compressed model as files that others can load."""

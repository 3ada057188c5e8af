"""A stage runs once: its key, its record, its lock, its checkpoints."""

"""The model that is compressed: its shape, its modules, its checkpoints."""

"""This machine: its hardware, terminal, signals and logs."""

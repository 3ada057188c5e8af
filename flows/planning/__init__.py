"""What a run would do and why: stages, their states, reasons and times."""

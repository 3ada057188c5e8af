"""One training loop with its batches, optimizer and learning-rate schedules."""

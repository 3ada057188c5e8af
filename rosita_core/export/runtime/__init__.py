"""What is copied beside a graph; it imports nothing of this package."""

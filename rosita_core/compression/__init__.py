"""What is removed and when: importance, heads and FFN units, embedding rank, layers, schedules."""

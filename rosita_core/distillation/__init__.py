"""What the student learns from the teacher: layer mapping and losses."""

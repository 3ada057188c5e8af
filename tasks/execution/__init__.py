"""One execution of a stage: its inputs, its attempt, its processes."""

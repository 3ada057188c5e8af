"""What ends a command with exit code 1 and one line."""


class Failure(RuntimeError):
    """One line on why a run failed, or a server could not be started."""

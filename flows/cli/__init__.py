"""The command `rosita`, one file per group of commands."""


def main() -> None:
    """Entry point; see `flows.cli.app`."""
    from flows.cli.app import main as run

    run()

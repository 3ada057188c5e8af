"""The command `rosita`, one file per group of commands."""

import importlib.util
import sys
from pathlib import Path

PACKAGES = ("tasks", "rosita_core")


def main() -> None:
    """Entry point; see `flows.cli.app`."""
    _check_packages(Path(__file__).parents[2])
    from flows.cli.app import main as run

    run()


def _check_packages(root: Path) -> None:
    """Refuse to run with somebody else's `tasks`: the name is a common one."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None and Path(spec.origin).parents[1] != root:
            print(
                f"rosita: {name} must be the package in {root}, got {spec.origin}; "
                "take its folder out of PYTHONPATH",
                file=sys.stderr,
            )
            raise SystemExit(2)

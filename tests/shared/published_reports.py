"""Whether the published reports are what `make report` writes from the committed records.

`make report-check` runs this; it draws every plot anew, which takes most of a minute.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parents[1] / "bench" / "results"
ROSITA = Path(sys.executable).parent / "rosita"
FORMATS = ("--format", "markdown", "--format", "tables")


def differences(folder: Path, again: Path) -> list[str]:
    """Files of a published report that are not what its records give."""
    wrong = []
    if (again / "report.md").read_bytes() != (folder / "report.md").read_bytes():
        wrong.append("report.md")
    for form in ("plots/*.png", "tables/*.csv", "tables/*.parquet"):
        names = [sorted(path.name for path in place.glob(form)) for place in (folder, again)]
        if names[0] != names[1]:
            wrong.append(form)
    for form, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        for path in again.glob(f"tables/*.{form}"):
            frames = [read(place / "tables" / path.name) for place in (folder, again)]
            try:
                # The last bits of a mean depend on the processor; Parquet's own, on its version.
                pd.testing.assert_frame_equal(*frames, rtol=1e-9, atol=1e-12)
            except AssertionError:
                wrong.append(f"tables/{path.name}")
    return wrong


def committed() -> list[Path]:
    """The folders of the published grids: `records/`, and what `make report` writes beside it."""
    return sorted(path.parent for path in RESULTS.glob("*/records"))


def main() -> None:
    """Name every file that is not what its records give; exit code 1 if there is one."""
    folders = committed()
    wrong = [f"no records in {RESULTS}"] if not folders else []
    with tempfile.TemporaryDirectory() as place:
        for folder in folders:
            again = Path(place) / folder.name
            records = ("--records", str(folder / "records"), "--out", str(again))
            subprocess.run([str(ROSITA), "report", *records, *FORMATS], check=True)
            wrong += [f"{folder.name}/{name}" for name in differences(folder, again)]
    for name in wrong:
        print(f"not what the records give; `make report` writes it anew: {name}", file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

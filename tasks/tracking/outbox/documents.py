"""The summary of a run, whose facts about MLflow may come to be known after it was written."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from tasks.store.artifacts import write_json


def complete_document(path: Path, run_id: str, registered: Mapping[str, str] | None) -> None:
    """Fill in `mlflow_run_id` and `registered_model` of a JSON file, where they differ.

    The file keeps its times, which say when the run ended: the newest run is found by them.

    Raises FileNotFoundError when the file is gone, ValueError when it is no JSON.
    """
    times = path.stat()
    document = json.loads(path.read_text(encoding="utf-8"))
    filled = document | {"mlflow_run_id": run_id}
    if registered is not None:
        filled["registered_model"] = {key: registered[key] for key in ("name", "version", "uri")}
    if filled != document:
        write_json(path, filled)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

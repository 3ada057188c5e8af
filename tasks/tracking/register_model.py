"""Stage `register`. Recording is never cached, so it has no stage key and runs every time."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.tracking.runs import FLUSH_SECONDS, Tracking
from tasks.tracking.tags import GRAPH_SUFFIX

COLUMNS = {"text_a": "text", "text_b": "text_b"}
"""Of prepared rows, and as the served model calls them."""


@task(name="register", task_run_name="register", cache_policy=NO_CACHE, persist_result=False)
def register_model(
    home: str,
    run: str,
    problem: str,
    checkpoint: str,
    artifact: str,
    tags: Mapping[str, str],
    description: str,
    example: Mapping[str, str],
) -> dict[str, str] | None:
    """Log the exported checkpoint as the model of a tracked run and register `rosita-<problem>`.

    Returns name, version and uri; None when MLflow does not answer, and it is registered later.
    """
    tracking = Tracking(home)
    params = {name: tags[f"rosita.{name}"] for name in ("recipe", "shape")}
    log_compressed_model(
        tracking, run, problem, Path(checkpoint), artifact, params, tags, description, example
    )
    tracking.flush(FLUSH_SECONDS)
    return tracking.registered(run)


def log_compressed_model(
    tracking: Tracking,
    run: str,
    problem: str,
    checkpoint: Path,
    artifact: str | None,
    params: Mapping[str, object],
    tags: Mapping[str, str],
    description: str = "",
    example: Mapping[str, str] | None = None,
) -> None:
    """Log a Hugging Face checkpoint directory as the model of a run: `rosita-<problem>`.

    Where a graph was made of it and kept, that is logged beside it as `rosita-<problem>-onnx`. Both
    are copied as they are; the code that serves them is a source file, so nothing is pickled and
    nothing of this project is needed to load them. `artifact` is its digest: when a version with
    that digest is registered already, the run gets that one. `example` is a row of `example_of`.

    Raises ValueError when the directory holds no checkpoint.
    """
    if not (checkpoint / "config.json").is_file():
        raise ValueError(f"checkpoint must hold a config.json, got {checkpoint}")
    from rosita_core.export import ONNX, place

    config: dict[str, Any] = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    graph = place(checkpoint, ONNX)
    for folder, suffix in ((checkpoint, ""), (graph, GRAPH_SUFFIX)):
        if folder.is_dir():
            tracking.log_model(
                run,
                f"rosita-{problem}{suffix}",
                folder,
                artifact,
                params,
                tags,
                description,
                reads_pairs=config.get("text_pair"),
                regression=config.get("problem_type") == "regression",
                example=example,
            )


def example_of(data: Path) -> dict[str, str]:
    """The first dev row of an artifact of the stage `data`, as the served model reads it."""
    with pq.ParquetFile(data / "splits" / "dev.parquet") as file:
        columns = [name for name in COLUMNS if name in file.schema_arrow.names]
        [row] = next(file.iter_batches(1, columns=columns)).to_pylist()
    return {COLUMNS[name]: text for name, text in row.items()}

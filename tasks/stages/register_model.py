"""Stage `register`. Recording is never cached, so it has no stage key and runs every time."""

from collections.abc import Mapping
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.tracking.runs import FLUSH_SECONDS, Tracking


@task(name="register", task_run_name="register", cache_policy=NO_CACHE, persist_result=False)
def register_model(
    home: str,
    run: str,
    problem: str,
    checkpoint: str,
    artifact: str,
    tags: Mapping[str, str],
    description: str,
) -> dict[str, str] | None:
    """Log the exported checkpoint as the model of a tracked run and register `rosita-<problem>`.

    Returns name, version and uri; None when MLflow does not answer, and it is registered later.
    """
    tracking = Tracking(home)
    params = {name: tags[f"rosita.{name}"] for name in ("recipe", "shape")}
    log_compressed_model(
        tracking, run, problem, Path(checkpoint), artifact, params, tags, description
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
) -> None:
    """Log a Hugging Face checkpoint directory as the model of a run: `rosita-<problem>`.

    The checkpoint is copied as it is; the code that serves it is a source file, so nothing is
    pickled and nothing of this project is needed to load it. `artifact` is its digest: when a
    version with that digest is registered already, the run gets that one.

    Raises ValueError when the directory holds no checkpoint.
    """
    if not (checkpoint / "config.json").is_file():
        raise ValueError(f"checkpoint must hold a config.json, got {checkpoint}")
    tracking.log_model(run, f"rosita-{problem}", checkpoint, artifact, params, tags, description)

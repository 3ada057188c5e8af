"""Stage `register`. Recording is never cached, so it has no stage key and runs every time."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.tracking.models import log_compressed_model
from tasks.tracking.runs import FLUSH_SECONDS, Tracking


@task(name="register", task_run_name="register", cache_policy=NO_CACHE, persist_result=False)
def register_model(
    home: str,
    run: str,
    task_name: str,
    checkpoint: str,
    artifact: str,
    recipe: str,
    shape: str,
    seed: int,
) -> dict[str, str] | None:
    """Log the exported checkpoint as the model of a tracked run and register `rosita-<task>`.

    Returns name, version and uri; None when MLflow does not answer, and it is registered later.
    """
    tracking = Tracking(home)
    log_compressed_model(
        tracking,
        run,
        task_name,
        Path(checkpoint),
        artifact,
        {"recipe": recipe, "shape": shape},
        {"rosita.seed": str(seed), "rosita.shape": shape},
    )
    tracking.flush(FLUSH_SECONDS)
    return tracking.registered(run)

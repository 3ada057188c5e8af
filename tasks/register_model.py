"""Stage `register`. Recording is never cached, so it has no stage key and runs every time."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.model_logging import RegisteredModel, log_compressed_model
from tasks.tracking import Tracking


@task(name="register", task_run_name="register", cache_policy=NO_CACHE, persist_result=False)
def register_model(
    home: str,
    run_id: str,
    task_name: str,
    checkpoint: str,
    recipe: str,
    shape: str,
    seed: int,
) -> RegisteredModel:
    """Log the exported checkpoint as the model of an MLflow run and register `rosita-<task>`."""
    return log_compressed_model(
        Tracking(home),
        run_id,
        task_name,
        Path(checkpoint),
        {"recipe": recipe, "shape": shape},
        {"rosita.seed": str(seed), "rosita.shape": shape},
    )

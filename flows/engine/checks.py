"""What every command that computes does first: look the recipe up on this machine."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from flows.engine.hub import silent_hub, without_hub
from flows.engine.nodes import numerics_of, stage_of
from flows.engine.pages import mlflow_pages
from flows.method import method
from flows.recipes.request import Request, check, check_home, check_paths, read_rows
from flows.recipes.schema import Recipe
from rosita_core.data.readers.film_reviews import ARCHIVE, SHA256
from rosita_core.model.locate import nothing_fetched
from rosita_core.model.shape import count_parameters
from rosita_core.training.loop import total_steps
from tasks.cache.shared_records import look
from tasks.home import Home, home_directory
from tasks.host.environment import PREFECT_API_URL
from tasks.host.private_files import make_private
from tasks.host.redaction import web_address
from tasks.store.shared_files import checked_files
from tasks.store.shared_lease import lease_seconds


def prepare_request(recipe: Recipe, download: bool) -> Request:
    """The request, with its data read and checked unless an earlier run has done so.

    Args:
        download: whether a model and data may be fetched to be checked. Without it, data that would
            have to be fetched first is left unchecked, a model is refused, and nothing is written,
            so that the home need not be one that can be.

    Raises:
        ValueError: one line naming the field, the bound and the value.
        ConnectionError: where data cannot be fetched.
    """
    check_paths(recipe)
    if not download:
        with nothing_fetched():
            return _prepared(recipe, download)
    silent = silent_hub(recipe)
    if silent is None:
        return _prepared(recipe, download)
    try:
        with without_hub():
            return _prepared(recipe, download)
    except (ValueError, ConnectionError) as error:
        raise type(error)(f"{error}; {silent}") from None


def _prepared(recipe: Recipe, download: bool) -> Request:
    numerics = numerics_of(recipe)
    request = check(recipe, home_directory())
    if download:
        check_home(request.home, count_parameters(request.teacher).total)
        for place in (request.home, Home(request.home).mlflow_database):
            make_private(place)
    lease_seconds()
    mlflow_pages(request.home)
    web_address(PREFECT_API_URL)
    checked_files(write=download)
    data = method(request)[0]
    record, _ = look(request.home, stage_of(data, {}, numerics).key, data.name)
    rows = None if record is None else record.metrics.get("rows_train")
    if isinstance(rows, float) and math.isfinite(rows):
        check_rows(request, int(rows))
    elif download or is_here(request):
        check_rows(request, read_rows(request.source).counts["train"])
    if download:
        # Imports MLflow, which a plan does without.
        from tasks.tracking.runs import Tracking

        Tracking(request.home)
    return request


def check_rows(request: Request, rows: int) -> None:
    """Whether the training rows, before augmentation, suffice for what is done with them.

    Raises:
        ValueError: naming the field, its bound and the value.
    """
    check_steps(request, rows)
    for node in method(request):
        if node.name == "measure":
            node.config.calibration.chosen(rows)


def check_steps(request: Request, rows: int) -> None:
    """Whether the trainings that prune have a step for every prune.

    Args:
        rows: training rows before augmentation. How many there are afterwards is known only then,
            so what is refused here has too few steps even if every variant is new.

    Raises:
        ValueError: naming the field, the steps that there are and the prunes.
    """
    recipe = request.recipe
    most = rows * (1 + recipe.augment.copies)
    for node in method(request):
        if node.name not in ("depth", "width"):
            continue
        steps = total_steps(most, node.config.training)
        if node.name == "depth":
            field, prunes = "depth.keep_layers", request.teacher.layers - node.config.keep_layers
            what = f"must remove at most {steps} layers"
        else:
            field, prunes = "width.prune_steps", node.config.prune_steps
            what = f"must be at most {steps}"
        if prunes > steps:
            epochs = node.config.training.epochs
            raise ValueError(
                f"{field} {what}, the optimizer steps of {epochs:g} epochs over {most:,} rows, "
                f"got {prunes}"
            )


def is_here(request: Request) -> bool:
    """Whether the data can be read without fetching anything."""
    source = request.source
    if source.source == "packaged":
        archive = Path(source.cache) / ARCHIVE
        if not archive.is_file():
            return False
        with archive.open("rb") as file:
            # A damaged archive would be fetched again.
            return hashlib.file_digest(file, "sha256").hexdigest() == SHA256
    return source.source != "hub"

"""Latency of models side by side, with their sizes and the machine it was measured on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from transformers.utils import logging as transformers_logging

from flows.serving.lookup import compressed_model, newest_summary, stage_folder
from flows.serving.predict import load_classifier
from rosita_core.measuring.disk import disk_mb
from rosita_core.measuring.latency import Latency, measure_side_by_side
from rosita_core.model.checkpoint import placed, shape_of
from rosita_core.model.locate import config_of, shape_from
from rosita_core.model.modeling_rosita import RositaForSequenceClassification
from rosita_core.model.shape import count_macs, count_parameters
from rosita_core.training.placement import Placement
from tasks.host.console import console
from tasks.host.hardware import ResolvedNumerics, hardware

# Token ids are drawn from it; which ones they are does not change the time.
SEED = 0


@dataclass(frozen=True)
class SpeedSettings:
    """What is timed.

    Attributes:
        batch_sizes: each is timed.
        tokens: length of every sequence, none of it padding.
        repeats: timed passes of every model and batch size.
        warmup: rounds before them.
    """

    batch_sizes: tuple[int, ...]
    tokens: int
    repeats: int
    warmup: int

    def __post_init__(self) -> None:
        for field, value, least in (
            *(("batch_size", size, 1) for size in self.batch_sizes),
            ("tokens", self.tokens, 1),
            ("repeats", self.repeats, 1),
            ("warmup", self.warmup, 0),
        ):
            if value < least:
                raise ValueError(f"{field} must be at least {least}, got {value}")


def models_to_time(models: list[str], home: Path) -> dict[str, Path]:
    """Checkpoint directories by the name that the table calls them; see `rosita benchmark`.

    Args:
        models: checkpoint directories and ids of finished runs; none means teacher and student of
            the newest run.
        home: where runs are.

    Raises:
        ValueError: for a model that does not exist.
    """
    if not models:
        summary = newest_summary(home)
        folders = {"teacher": "teacher", "student": "export"}
        return {name: stage_folder(summary, stage, home) for name, stage in folders.items()}
    found: dict[str, Path] = {}
    for given in models:
        model = compressed_model(given, home)
        name = given if model.run_id is not None else model.folder.resolve().name
        # Many checkpoint folders are called alike; then the whole path tells them apart.
        name = name if name not in found else given
        if name in found:
            raise ValueError(f"models must differ from each other, got {given} twice")
        found[name] = model.folder
    return found


def compare_speed(
    folders: dict[str, Path], settings: SpeedSettings, numerics: ResolvedNumerics
) -> dict[str, Any]:
    """Sizes and latencies of the models in `folders`, measured in turns, as one JSON document.

    Raises:
        ValueError: for a directory that is no checkpoint, or fewer positions than `tokens`.
    """
    transformers_logging.disable_progress_bar()
    for name, folder in folders.items():
        positions = shape_from(config_of(folder), 1).frame.max_positions
        if settings.tokens > positions:
            raise ValueError(
                f"tokens must be at most {positions}, the positions of {name}, "
                f"got {settings.tokens}"
            )
    torch.set_num_threads(numerics.threads)
    models = {
        name: placed(load_classifier(folder), numerics.device).eval()
        for name, folder in folders.items()
    }
    latencies = measure_side_by_side(
        models,
        settings.batch_sizes,
        (settings.tokens,),
        settings.repeats,
        settings.warmup,
        SEED,
        Placement(numerics.device, numerics.precision),
    )
    first = latencies[next(iter(models))]
    return {
        **asdict(settings),
        "numerics": asdict(numerics),
        "hardware": hardware(),
        "versions": {name: version(name) for name in ("torch", "transformers", "rosita")},
        "models": [
            {
                "name": name,
                "folder": str(folders[name]),
                **_size(model, settings.tokens),
                "disk_mb": disk_mb(folders[name]),
                "latency": [
                    _timing(ours, theirs)
                    for ours, theirs in zip(latencies[name], first, strict=True)
                ],
            }
            for name, model in models.items()
        ],
    }


def show_speed(document: dict[str, Any]) -> None:
    """The document of `compare_speed` as a table, a column per model."""
    models = document["models"]
    table = Table(title=f"latency of one forward pass, {document['tokens']} tokens a sequence")
    table.add_column("")
    for model in models:
        table.add_column(model["name"], justify="right", overflow="fold")
    table.add_row("shape", *(model["shape"] for model in models))
    for label, field, form in (
        ("parameters", "params", "{:,}"),
        ("multiply-adds a sequence", "macs", "{:,}"),
        ("size on disk (MB)", "disk_mb", "{:,.1f}"),
    ):
        values = [model[field] for model in models]
        table.add_row(label, *_compared(values, form))
    for position, batch_size in enumerate(document["batch_sizes"]):
        for percentile in ("p50", "p95"):
            values = [model["latency"][position][f"{percentile}_ms"] for model in models]
            table.add_row(f"batch {batch_size}, {percentile} (ms)", *_compared(values, "{:,.2f}"))
    out = console()
    out.print(table)
    machine, numerics = document["hardware"], document["numerics"]
    versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    where = ", ".join(machine["gpus"]) if numerics["device"] != "cpu" else machine["cpu"]
    print(
        f"{where}; {numerics['device']}, {numerics['precision']}, {numerics['threads']} threads; "
        f"{document['repeats']} passes after {document['warmup']} warm-up rounds"
    )
    print(f"{versions}, python {machine['python']}, {machine['os']}")


def _size(model: RositaForSequenceClassification, tokens: int) -> dict[str, Any]:
    shape = shape_of(model.config)
    params = count_parameters(shape)
    return {
        "shape": str(shape),
        "params": params.total,
        "params_embedding": params.embedding,
        "params_encoder": params.encoder,
        "params_head": params.head,
        "macs": count_macs(shape, tokens),
    }


def _timing(latency: Latency, first: Latency) -> dict[str, float]:
    """`speedup_p50` says how many times faster than the first model."""
    return {
        "batch_size": latency.batch_size,
        "p50_ms": latency.p50_ms,
        "p95_ms": latency.p95_ms,
        "speedup_p50": first.p50_ms / latency.p50_ms,
    }


def _compared(values: list[float], form: str) -> list[str]:
    """Each value, and how many times less than the first it is."""
    cells = [form.format(values[0])]
    return cells + [f"{form.format(value)} ({values[0] / value:.2f}x less)" for value in values[1:]]

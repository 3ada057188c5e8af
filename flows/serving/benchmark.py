"""Latency of models in the engines that can run them, with sizes and the machine.

Each engine computes each model in a process of its own, and they take turns.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from flows.serving.input_file import counted
from flows.serving.lookup import compressed_model, newest_summary, stage_folder
from flows.serving.predict import load_classifier
from rosita_core.export import GRAPH
from rosita_core.export.graph import quantize, write_graph
from rosita_core.measuring.disk import BYTES_PER_MB
from rosita_core.measuring.engines import ONNX, TORCH, Engine, Measured, Rounds, measure_engines
from rosita_core.model.checkpoint import shape_of
from rosita_core.model.locate import config_of, shape_from
from rosita_core.model.shape import count_macs, count_parameters
from tasks.host.console import console
from tasks.host.hardware import ResolvedNumerics, hardware
from tasks.host.new_folder import check_new_file

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

# Token ids are drawn from it; which ones they are does not change the time.
SEED = 0
FIRST_ENGINE = "torch-fp32"
"""Ratios are to the first model in it."""
TORCH_ENGINES: Mapping[str, tuple[str, bool]] = {
    FIRST_ENGINE: ("fp32", False),
    "torch-bf16": ("bf16", False),
    "torch-compiled": ("fp32", True),
}
"""Precision, and whether torch compiles the model."""
GRAPH_ENGINES = ("onnx", "onnx-int8")
ENGINES = (*TORCH_ENGINES, *GRAPH_ENGINES)
MOST = 2**16
VERSIONS = ("torch", "onnxruntime", "transformers", "rosita")
PLOTS = (".png", ".svg", ".pdf")
COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True)
class SpeedSettings:
    """What is timed.

    Attributes:
        engines: each times every model.
        batch_sizes: each is timed.
        tokens: length of every sequence, none of it padding.
        repeats: timed passes of every model, engine and batch size.
        warmup: rounds before them.
    """

    engines: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    tokens: int
    repeats: int
    warmup: int

    def __post_init__(self) -> None:
        for engine in self.engines:
            if engine not in ENGINES:
                raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine}")
        for field, value, least in (
            *(("batch_size", size, 1) for size in self.batch_sizes),
            ("tokens", self.tokens, 1),
            ("repeats", self.repeats, 1),
            ("warmup", self.warmup, 0),
        ):
            if not least <= value <= MOST:
                raise ValueError(f"{field} must be in [{least}, {MOST:,}], got {value}")


def usual_engines(device: str) -> tuple[str, ...]:
    """The engines of a device: graphs are computed on the CPU, and torch needs a compiler."""
    compiler = device != "cpu" or any(shutil.which(name) for name in COMPILERS)
    torch_engines = tuple(name for name in TORCH_ENGINES if compiler or name != "torch-compiled")
    return (*torch_engines, *GRAPH_ENGINES) if device == "cpu" else torch_engines


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
        ValueError: for a directory that is no checkpoint, fewer positions than `tokens`, or an
            engine that the device has not.
    """
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    for name, folder in folders.items():
        positions = shape_from(config_of(folder), 1).frame.max_positions
        if settings.tokens > positions:
            raise ValueError(
                f"tokens must be at most {positions}, the positions of {name}, "
                f"got {settings.tokens}"
            )
    graphs = tuple(name for name in settings.engines if name in GRAPH_ENGINES)
    if graphs and numerics.device != "cpu":
        raise ValueError(f"engine must be one of torch on {numerics.device}, got {graphs[0]}")
    models = {name: load_classifier(folder) for name, folder in folders.items()}
    with tempfile.TemporaryDirectory() as place:
        engines: dict[tuple[str, str], Engine] = {}
        for name, model in models.items():
            written = _graphs(model, graphs, Path(place) / str(len(engines)))
            for kind in settings.engines:
                engines[name, kind] = _engine(kind, folders[name], written, numerics.device)
        rounds = Rounds(
            settings.batch_sizes,
            settings.tokens,
            settings.repeats,
            settings.warmup,
            SEED,
            min(model.config.vocab_size for model in models.values()),
            numerics.threads,
        )
        named = {" ".join(key): engine for key, engine in engines.items()}
        turns = count(1)
        with counted(f"timing {len(engines)} engines", "round", rounds.turns) as done:
            found = measure_engines(named, rounds, lambda: done(next(turns)))
        measured = dict(zip(engines, found.values(), strict=True))
        sizes = {key: _bytes(engine) for key, engine in engines.items()}
    first = next(iter(models))
    return {
        **asdict(settings),
        "device": numerics.device,
        "threads": numerics.threads,
        "hardware": hardware(),
        "versions": {name: version(name) for name in VERSIONS},
        "models": [
            {
                "name": name,
                "folder": str(folders[name]),
                **_size(model, settings.tokens),
                "engines": {
                    kind: {
                        "bytes": sizes[name, kind],
                        "peak_memory_mb": measured[name, kind].peak_memory_mb,
                        "latency": _latencies(measured, first, name, kind),
                    }
                    for kind in settings.engines
                },
            }
            for name, model in models.items()
        ],
    }


def _graphs(
    model: RositaForSequenceClassification, kinds: tuple[str, ...], place: Path
) -> dict[str, Path]:
    """The folder of each graph that engines read."""
    if not kinds:
        return {}
    folders = {kind: place / kind for kind in GRAPH_ENGINES}
    for folder in folders.values():
        folder.mkdir(parents=True)
    write_graph(model, folders["onnx"])
    if "onnx-int8" in kinds:
        quantize(folders["onnx"], folders["onnx-int8"])
    return folders


def _engine(kind: str, folder: Path, graphs: Mapping[str, Path], device: str) -> Engine:
    if kind in GRAPH_ENGINES:
        return Engine(graphs[kind], ONNX)
    precision, compiled = TORCH_ENGINES[kind]
    return Engine(folder, TORCH, device, precision, compiled)


def _bytes(engine: Engine) -> int:
    """Of the weights that it reads."""
    pattern = GRAPH if engine.kind == ONNX else "*.safetensors"
    return sum(path.stat().st_size for path in engine.folder.glob(pattern))


def _latencies(
    measured: Mapping[tuple[str, str], Measured], first: str, name: str, kind: str
) -> list[dict[str, float]]:
    """`speedup` says how many times faster than the first model in the first engine.

    `speedup_same_engine` says it of the first model in the same engine.
    """
    base = FIRST_ENGINE if (first, FIRST_ENGINE) in measured else kind
    return [
        {
            "batch_size": ours.batch_size,
            "p50_ms": ours.p50_ms,
            "p95_ms": ours.p95_ms,
            "speedup": theirs.p50_ms / ours.p50_ms,
            "speedup_same_engine": same.p50_ms / ours.p50_ms,
        }
        for ours, theirs, same in zip(
            measured[name, kind].latencies,
            measured[first, base].latencies,
            measured[first, kind].latencies,
            strict=True,
        )
    ]


def show_speed(document: dict[str, Any]) -> None:
    """The document of `compare_speed` as tables: the models, and a row per model and engine."""
    models, out = document["models"], console()
    sizes = Table(title="models")
    sizes.add_column("")
    for model in models:
        sizes.add_column(model["name"], justify="right", overflow="fold")
    sizes.add_row("shape", *(model["shape"] for model in models))
    for label, field in (("parameters", "params"), ("multiply-adds a sequence", "macs")):
        sizes.add_row(label, *_compared([model[field] for model in models]))
    out.print(sizes)
    table = Table(title=f"latency of one forward pass, {document['tokens']} tokens a sequence")
    for name in ("model", "engine", "batch"):
        table.add_column(name)
    for name in ("p50 (ms)", "p95 (ms)", "faster", "in this engine", "memory (MB)", "weights (MB)"):
        table.add_column(name, justify="right")
    for model in models:
        for kind, found in model["engines"].items():
            for timing in found["latency"]:
                table.add_row(
                    model["name"],
                    kind,
                    str(timing["batch_size"]),
                    f"{timing['p50_ms']:,.2f}",
                    f"{timing['p95_ms']:,.2f}",
                    f"{timing['speedup']:.2f}x",
                    f"{timing['speedup_same_engine']:.2f}x",
                    f"{found['peak_memory_mb']:,.0f}",
                    f"{found['bytes'] / BYTES_PER_MB:,.1f}",
                )
    out.print(table)
    machine = document["hardware"]
    versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    where = ", ".join(machine["gpus"]) if document["device"] != "cpu" else machine["cpu"]
    print(f"faster: than {models[0]['name']} in {FIRST_ENGINE}, and in this engine, by medians")
    print(
        f"{where}; {document['device']}, {document['threads']} threads; an engine in its own "
        f"process; {document['repeats']} passes in turns after {document['warmup']} warm-up rounds"
    )
    print(f"{versions}, python {machine['python']}, {machine['os']}")


def check_plot(path: Path) -> None:
    """Refuse a plot that cannot be drawn, before anything is timed.

    Raises:
        ValueError: for another ending, or a place that cannot be written.
    """
    if path.suffix.lower() not in PLOTS:
        raise ValueError(f"plot must end in one of {', '.join(PLOTS)}, got {path}")
    check_new_file(path, "plot")


def plot_speed(document: dict[str, Any], path: Path) -> None:
    """Median latencies as bars: a panel per batch size, a bar per model and engine.

    Raises:
        ValueError: where the file cannot be written in the format of its ending.
    """
    from matplotlib.figure import Figure

    sizes = document["batch_sizes"]
    figure = Figure(figsize=(6.4 * len(sizes), 4.2), layout="constrained")
    for position, panel in enumerate(figure.subplots(1, len(sizes), squeeze=False)[0]):
        for model in document["models"]:
            engines = model["engines"]
            names = [f"{model['name']} {kind}" for kind in engines]
            timings = [engines[kind]["latency"][position] for kind in engines]
            bars = panel.barh(names, [timing["p50_ms"] for timing in timings])
            panel.bar_label(bars, [f"{timing['speedup']:.1f}x" for timing in timings], padding=3)
        panel.invert_yaxis()
        panel.margins(x=0.15)
        panel.set_xlabel(f"median ms, batch {sizes[position]} x {document['tokens']} tokens")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"plot must be a file that can be written, got {path}: {error}") from None


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


def _compared(values: list[float]) -> list[str]:
    """Each value, and how many times less than the first it is."""
    cells = [f"{values[0]:,}"]
    return cells + [f"{value:,} ({values[0] / value:.2f}x less)" for value in values[1:]]

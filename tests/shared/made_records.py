"""Records of grids as `rosita grid` leaves them, made up: sizes and curves like those of MiniLM."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from command_line import Done, rosita

from flows.recipes.shipped import minilm
from rosita_core.data.task_spec import GLUE

SEEDS = (42, 43, 44)
TEACHER = {"params": 22_713_986, "macs": 1_435_000_000, "b1": 12.3, "b32": 101.0}


@dataclass(frozen=True)
class Made:
    """A configuration of a made-up grid: labels, changes to the recipe, and how well it does."""

    labels: dict[str, str]
    changes: dict[str, Any]
    quality: float
    shape: str = "a2_l5_f180_e48"
    params: int = 3_026_342
    macs: int = 164_000_000
    speed: float = 1.0
    prunes: int = 10


KD_SETTINGS = [
    Made({"kd_setting": kd}, {"kd_setting": kd}, quality, prunes=10 if kd in "34" else 1)
    for kd, quality in (("none", 0.80), ("1", 0.84), ("2", 0.857), ("3", 0.866), ("4", 0.872))
]
ARCHITECTURES = [
    Made(
        {"shape": shape},
        {"depth.keep_layers": int(shape.split("_")[1][1:])},
        quality,
        shape,
        params,
        macs,
        speed,
    )
    for shape, quality, params, macs, speed in (
        ("a2_l6_f128_e48", 0.871, 3_029_222, 171_000_000, 1.2),
        ("a2_l5_f180_e48", 0.872, 3_026_342, 164_000_000, 1.0),
        ("a2_l4_f256_e48", 0.868, 3_023_770, 157_000_000, 0.82),
        ("a2_l3_f384_e48", 0.861, 3_021_198, 150_000_000, 0.66),
        ("a4_l2_f540_e48", 0.852, 3_030_100, 147_000_000, 0.48),
        ("a4_l1_f1240_e48", 0.828, 3_018_800, 140_000_000, 0.3),
    )
]
FREQUENCIES = [
    Made({"width.prune_fraction": label}, changes, quality, prunes=prunes)
    for label, changes, quality, prunes in (
        ("one-step", {"width.prune_fraction": 0.01, "width.prune_steps": 1}, 0.856, 1),
        ("0.01", {"width.prune_fraction": 0.01}, 0.866, 10),
        ("0.1", {"width.prune_fraction": 0.1}, 0.872, 10),
        ("0.2", {"width.prune_fraction": 0.2}, 0.873, 10),
        ("0.5", {"width.prune_fraction": 0.5}, 0.862, 10),
    )
]
SCHEDULES = [
    Made(
        {"schedule": schedule, "width.prune_fraction": f"{p}"},
        {"width.schedule": schedule, "width.prune_fraction": p},
        0.86 + (0.01 if schedule == "linear" else 0.0) - abs(p - 0.1) / 20,
    )
    for schedule in ("constant", "linear")
    for p in (0.01, 0.1, 0.5)
]
METHODS = [
    Made(
        {"method": method, "budget": budget},
        {"method": method, "compress.budget.share": share, "compress.recover": recover},
        quality,
        f"a12_l6_f{units}-700-600-500-400-300_e384",
        # Half is what a recipe has that says nothing.
        12_067_202 + round((share or 0.5) * 10_646_784),
        macs,
    )
    for method, budget, share, recover, quality, units, macs in (
        ("kcm", "0.5", 0.5, "none", 0.80, 512, 700_000_000),
        ("stat", "0.5", 0.5, "none", 0.84, 511, 690_000_000),
        ("stat", "0.3", 0.3, "none", 0.79, 400, 420_000_000),
        ("stat", "0.3-kd", 0.3, "kd", 0.86, 401, 420_000_000),
        ("magnitude", "0.5", None, "none", 0.60, 509, 680_000_000),
        ("magnitude", "0.3", 0.3, "none", 0.55, 398, 400_000_000),
        ("rosita", "0.3", 0.3, "none", 0.87, 399, 410_000_000),
    )
]
GRIDS = {
    "kd-settings": KD_SETTINGS,
    "architecture": ARCHITECTURES,
    "pruning-frequency": FREQUENCIES,
    "lr-schedule": SCHEDULES,
    "methods": METHODS,
}


def make_records(
    folder: Path,
    grid: str = "kd-settings",
    task: str = "sst2",
    seeds: Sequence[int] = SEEDS,
    rows: int = 872,
    unfinished: int = 0,
) -> Path:
    """Write the records of a grid into `folder`; the last `unfinished` cells are not done."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(int(hashlib.sha256(f"{grid}{task}".encode()).hexdigest()[:8], 16))
    truth = _Truth(rng, task, rows)
    teachers = {seed: truth.model(0.893 + rng.normal(0, 0.003)) for seed in seeds}
    frames: dict[str, list[Any]] = {n: [] for n in ("cells", "stages", "curves", "prunes")}
    predictions = [
        _predictions(f"teacher:{_key(task, 'teacher', s)}", teachers[s], truth) for s in seeds
    ]
    known: set[str] = set()
    recipes, missing = {}, {}
    made = [(one, seed) for seed in seeds for one in GRIDS[grid]]
    for number, (one, seed) in enumerate(made):
        name = f"{grid}-{task}/{'-'.join(one.labels.values())}-s{seed}"
        if number >= len(made) - unfinished:
            missing[name] = "has not run"
            continue
        recipes[name] = _recipe(name, task, one, seed)
        predicted = truth.model(one.quality + rng.normal(0, 0.004))
        frames["cells"].append(
            _cell(name, f"{grid}-{task}", task, one, seed, truth, predicted, teachers[seed], rng)
        )
        predictions.append(_predictions(name, predicted, truth))
        for stage, key, seconds in _stages(task, one, seed):
            frames["stages"].append(
                {
                    "cell": name,
                    "stage": stage,
                    "key": key,
                    "artifact": key[::-1],
                    "seconds": seconds,
                    "attempt": 1,
                    "cached": key in known,
                }
            )
            if key not in known and stage in ("teacher", "student", "depth", "width", "one-step"):
                frames["curves"] += list(_curve(rng, key, stage, one))
            if key not in known and stage in ("depth", "width", "one-step"):
                frames["prunes"] += list(_prunes(rng, key, stage, one))
            known.add(key)
    for name, values in frames.items():
        pd.DataFrame(values).to_parquet(folder / f"{name}.parquet", index=False)
    table = pd.concat(predictions, ignore_index=True)
    table.astype({"cell": "category", "split": "category"}).to_parquet(
        folder / "predictions.parquet", index=False
    )
    document = {
        "definition": {
            "name": f"{grid}-{task}",
            "base": f"minilm-{task}",
            "set": {"data.limit_rows": 8000},
            "seeds": list(seeds),
        },
        "missing": missing,
        "seeds": list(seeds),
        "recipes": recipes,
        "environments": [
            {
                "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
                "hardware": {"cpu": "two made-up cores", "memory_gib": 24},
            }
        ],
        "commits": ["0123456789abcdef0123456789abcdef01234567"],
        "date": "2026-11-22",
    }
    (folder / "grid.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return folder


def published(records: Path, out: Path) -> Done:
    """Write a report as `make report` does."""
    place = ("--records", str(records), "--out", str(out))
    return rosita("report", *place, "--format", "markdown", "--format", "tables", home=out)


class _Truth:
    """Labels, and models that are right on easy rows more often than on hard ones."""

    def __init__(self, rng: np.random.Generator, task: str, rows: int) -> None:
        self.rng, self.score = rng, GLUE[task].score
        self.numbers = GLUE[task].kind == "regression"
        self.labels = rng.random(rows) * 5 if self.numbers else rng.integers(0, 2, rows)
        self.ease = rng.permutation((np.arange(rows) + 0.5) / rows)

    def model(self, quality: float) -> np.ndarray:
        if self.numbers:
            return self.labels + self.rng.normal(size=len(self.labels)) * 2.2 * (1 - quality) / 0.2
        hard = np.clip(1 - quality + 0.04 * self.rng.normal(size=len(self.labels)), 0, 1)
        return np.where(self.ease < hard, 1 - self.labels, self.labels)


def _predictions(cell: str, predicted: np.ndarray, truth: _Truth) -> pd.DataFrame:
    rows = np.arange(len(predicted))
    values = {"row": rows, "label": truth.labels, "prediction": predicted}
    return pd.DataFrame({"cell": cell, "split": "dev", **values})


def _key(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _recipe(name: str, task: str, one: Made, seed: int) -> dict[str, Any]:
    recipe = minilm(task).model_dump(mode="json") | {"name": name, "seed": seed}
    for path, value in one.changes.items():
        *parents, last = path.split(".")
        target = recipe
        for parent in parents:
            target = target[parent]
        target[last] = value
    return recipe


def _cell(
    name: str,
    grid: str,
    task: str,
    one: Made,
    seed: int,
    truth: _Truth,
    predicted: np.ndarray,
    teacher: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, Any]:
    from rosita_core.measuring.metrics import compute_metrics

    spec = GLUE[task]
    metrics = compute_metrics(spec.metrics, predicted, truth.labels)
    teacher_score = compute_metrics([spec.score], teacher, truth.labels)[spec.score]
    noise = 1 + 0.02 * rng.normal(size=2)
    return {
        "cell": name,
        "grid": grid,
        "seed": seed,
        **{f"axis.{axis}": label for axis, label in one.labels.items()},
        "kd_setting": one.changes.get("kd_setting", "4"),
        "task": task,
        "shape": one.shape,
        "params": one.params,
        "params_embedding": 1_681_632,
        "params_encoder": 1_196_100,
        "macs": one.macs,
        "score": metrics[spec.score],
        "score_name": spec.score,
        **{f"metric.{metric}": value for metric, value in metrics.items()},
        "teacher_score": teacher_score,
        "teacher_params": TEACHER["params"],
        "teacher_shape": "a12_l6_f1536_e384",
        "teacher_macs": TEACHER["macs"],
        "retention": metrics[spec.score] / teacher_score,
        "compression": TEACHER["params"] / one.params,
        "latency_ms_p50_b1": 6.3 * one.speed * noise[0],
        "latency_ms_p50_b32": 28.0 * one.speed * noise[1],
        "teacher_latency_ms_p50_b1": TEACHER["b1"],
        "teacher_latency_ms_p50_b32": TEACHER["b32"],
        "seconds": sum(seconds for _, _, seconds in _stages(task, one, seed)),
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "run_id": _key("run", name)[:32],
    }


def _stages(task: str, one: Made, seed: int) -> Iterator[tuple[str, str, float]]:
    """(stage, key, seconds); stages before the first that differs are shared."""
    kd = one.changes.get("kd_setting", "4")
    layers = one.changes.get("depth.keep_layers", 5)
    yield "data", _key(task, "data"), 8.0
    yield "teacher", _key(task, "teacher", seed), 290.0
    if kd != "none":
        yield "augment", _key(task, "augment", seed), 60.0
    if kd in "234":
        yield "student", _key(task, "student", seed), 240.0
    if kd == "4" and layers < 6:
        yield "depth", _key(task, "depth", seed, layers), 230.0
    last = "width" if kd in "34" else "one-step"
    yield last, _key(task, last, seed, repr(one)), 620.0 * one.speed
    yield "assess", _key(task, "assess", seed, repr(one)), 22.0
    yield "export", _key(task, "export", seed, repr(one)), 4.0


def _curve(rng: np.random.Generator, key: str, stage: str, one: Made) -> Iterator[dict[str, Any]]:
    total = 3_000
    fraction = float(one.changes.get("width.prune_fraction", 0.2))
    for step in range(20, total + 1, 20):
        start = 1.2 if stage in ("width", "one-step") else 0.6
        bump = 0.5 if stage == "width" and step < fraction * total else 0.0
        loss = start * np.exp(-step / 700) + 0.25 + bump * 0.4 + 0.03 * rng.normal()
        names = {"train/loss": loss, "train/lr": 1e-3 * (1 - step / total)}
        if step % 200 == 0:
            reached = one.quality - 0.12 * np.exp(-step / 600) - bump * 0.06
            names["dev/score"] = reached + 0.004 * rng.normal()
        for name, value in names.items():
            yield {
                "key": key,
                "stage": stage,
                "step": step,
                "name": name,
                "value": float(value),
                "text": None,
            }
    for step in _prune_steps(stage, one, total):
        yield {
            "key": key,
            "stage": stage,
            "step": step,
            "name": "event",
            "value": None,
            "text": f"pruned to {one.shape}",
        }


def _prune_steps(stage: str, one: Made, total: int) -> list[int]:
    if stage == "depth":
        return [600]
    if stage == "one-step" or one.prunes == 1:
        return [0 if stage == "one-step" else 30]
    fraction = float(one.changes.get("width.prune_fraction", 0.2))
    return [round(k * fraction * total / one.prunes) for k in range(1, one.prunes + 1)]


def _prunes(rng: np.random.Generator, key: str, stage: str, one: Made) -> Iterator[dict[str, Any]]:
    if stage not in ("depth", "width", "one-step"):
        return
    layers = int(one.shape.split("_")[1][1:])
    keep = int(one.shape.split("_")[0][1:])
    worth = rng.gamma(2.0, 1.0, size=(layers, 12)) * np.linspace(0.4, 1.6, layers)[:, None]
    steps = _prune_steps(stage, one, 3_000)
    left = [list(range(12)) for _ in range(layers)]
    for number, step in enumerate(steps, start=1):
        ranked = [list(heads) for heads in left]
        count = 12 if stage == "depth" else round(12 + (keep - 12) * number / len(steps))
        scores = [
            [float(worth[layer, head] * (1 + 0.1 * rng.normal())) for head in heads]
            for layer, heads in enumerate(ranked)
        ]
        left = [
            sorted(heads[i] for i in np.argsort(s)[::-1][:count])
            for heads, s in zip(ranked, scores, strict=True)
        ]
        shape = f"a{count}_l{layers}_f{180}_e48"
        record = {
            "step": step,
            "shape": shape,
            "layers": list(range(layers)),
            "heads": left,
            "head_importance": [] if stage == "depth" else scores,
            "ranked_heads": [] if stage == "depth" else ranked,
            "ffn_importance_kept": [] if stage == "depth" else [0.9] * layers,
        }
        yield {"key": key, "stage": stage, "record": json.dumps(record)}


if __name__ == "__main__":
    import sys

    for grid in GRIDS:
        make_records(Path(sys.argv[1]) / grid, grid, unfinished=1 if grid == "architecture" else 0)
    make_records(Path(sys.argv[1]) / "kd-settings-cola", "kd-settings", "cola", rows=1043)

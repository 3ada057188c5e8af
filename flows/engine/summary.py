"""What a run achieved, as JSON for programs and as a table for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.engine.agreement import agreement, majority_score
from flows.engine.cuts import cuts, encoded_lengths
from flows.recipes.request import Request
from flows.recipes.schema import Recipe
from rosita_core.measuring.assessment import STUDENT, TEACHER, Assessment, summary_metrics
from rosita_core.measuring.disk import BYTES_PER_MB, disk_mb
from rosita_core.measuring.metrics import NO_SHARE
from tasks.cache.records import StageResult
from tasks.home import Home
from tasks.host.redaction import redacted, tracking_uri
from tasks.store.artifacts import Store, write_json
from tasks.tracking.tags import FINGERPRINT_TAG, SCORE_TAG

BASELINES = {"linear": "a linear model on TF-IDF"}

LATENCY = "latency_ms_p50_b"


def summarize(
    request: Request,
    results: dict[str, tuple[StageResult, bool]],
    assessment: Assessment,
    export_dir: Path,
    mlflow_run_id: str | None,
    run_id: str,
) -> dict[str, Any]:
    """The summary document of one run."""
    recipe = request.recipe
    store = Store(request.home)
    # Weights and configuration of both; the export has the tokenizer and code as well.
    last = list(results)[list(results).index("assess") - 1]
    sizes = {
        name: disk_mb(store.path(results[stage][0].artifact))
        for name, stage in ((TEACHER, "teacher"), (STUDENT, last))
    }
    lengths = encoded_lengths(request, store.path(results["data"][0].artifact))
    return {
        "run_id": run_id,
        "mlflow_run_id": mlflow_run_id,
        "mlflow_uri": redacted(tracking_uri(request.home)),
        "recipe": recipe.name,
        "task": recipe.task,
        "pair": request.spec.pair,
        "seed": recipe.seed,
        "method": recipe.method,
        "kd_setting": recipe.kd_setting,
        "score_name": assessment.score_name,
        "macs_tokens": assessment.macs_tokens,
        "latency_tokens": recipe.assess.latency_tokens,
        "peak_memory_mb": results["assess"][0].metrics["peak_memory_mb"],
        "seconds": sum(result.seconds for result, _ in results.values()),
        "select_on_dev": recipe.fidelity.select_on_dev,
        "dev_rows": len(assessment.labels["dev"]),
        "rows": counted_rows(results["data"][0].metrics),
        "cuts": [asdict(cut) for cut in cuts(request, lengths, False)],
        "numerics": {
            "device": assessment.device,
            "precision": assessment.precision,
            "threads": assessment.threads,
        },
        "stages": [
            {
                "name": name,
                "key": result.key,
                "artifact": result.artifact,
                "status": "cached" if cached else "completed",
                "seconds": result.seconds,
                "metrics": dict(result.metrics),
            }
            for name, (result, cached) in results.items()
        ],
        "teacher": _model(assessment, TEACHER, sizes),
        "student": _model(assessment, STUDENT, sizes),
        "baselines": {
            name.removesuffix("_score"): value
            for name, value in results["assess"][0].metrics.items()
            if name in ("majority_score", "linear_score")
        },
        "formats": formats(results["export"][0].metrics, assessment.models[TEACHER].score),
        "compression": assessment.compression,
        "retention": assessment.retention,
        "majority_score": majority_score(assessment),
        "agreement": agreement(assessment),
        "export_dir": str(export_dir),
        "home": str(request.home),
    }


def formats(
    metrics: Mapping[str, float | str], teacher_score: float
) -> dict[str, dict[str, float | str | None]]:
    """What the export stage found of each format, by its name."""
    found: dict[str, dict[str, float | str | None]] = {}
    for name, value in metrics.items():
        form, slash, quantity = name.partition("/")
        if slash:
            found.setdefault(form, {})[quantity] = value
    for told in found.values():
        if isinstance(score := told.get("score"), float):
            told["retention"] = score / teacher_score if teacher_score > 0 else None
    return found


def format_rows(summary: dict[str, Any]) -> list[dict[str, str]]:
    """A row per format of the exported model, as text; those left out say so below."""
    fields = sorted(
        (field for field in summary["teacher"] if field.startswith(LATENCY)),
        key=lambda field: int(field.removeprefix(LATENCY)),
    )
    rows = []
    for name, told in summary["formats"].items():
        if "left_out" in told:
            continue
        kept = told["retention"]
        row = {
            "format": name,
            summary["score_name"]: f"{told['score']:.4f}",
            "kept": "" if kept is None else f"{100 * kept:.1f} %",
            "worst difference": f"{told['worst_difference']:.1e}",
        }
        for field in fields:
            if field in told:
                row[f"p50, batch {field.removeprefix(LATENCY)} (ms)"] = f"{told[field]:,.2f}"
        rows.append(row | {"MB": f"{told['bytes'] / BYTES_PER_MB:,.1f}"})
    return rows


def left_out(summary: dict[str, Any]) -> list[str]:
    """A sentence for each format that does not say what the checkpoint says."""
    return [
        f"format {name} is left out: {told['left_out']}"
        for name, told in summary["formats"].items()
        if "left_out" in told
    ]


def counted_rows(metrics: Mapping[str, float | str]) -> dict[str, int]:
    """What the data stage counted: rows of each split, left out, and in two splits at once."""
    return {
        name.removeprefix("rows_"): int(count)
        for name, count in metrics.items()
        if name.startswith("rows_")
    }


def _model(assessment: Assessment, name: str, sizes: dict[str, float]) -> dict[str, Any]:
    model = assessment.models[name]
    numbers = summary_metrics(model)
    return {
        **numbers,
        "shape": model.shape,
        "params": model.params.total,
        "params_embedding": model.params.embedding,
        "params_encoder": model.params.encoder,
        "params_head": model.params.head,
        "macs": model.macs,
        "metrics": dict(model.metrics),
        "latencies": [asdict(latency) for latency in model.latencies],
        "disk_mb": sizes[name],
    }


def write_summary(summary: dict[str, Any], home: Path) -> Path:
    """Write `<home>/runs/<run_id>/summary.json`; returns its path."""
    path = Home(home).summary(summary["run_id"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**summary, "summary": str(path)})
    return path


def summary_document(home: Path, run_id: str) -> dict[str, Any]:
    """What `write_summary` wrote of a run."""
    path = Home(home).summary(run_id)
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def version_tags(recipe: Recipe, summary: dict[str, Any], fingerprint: str) -> dict[str, str]:
    """What a registered model is found and compared by."""
    retention = summary["retention"]
    return {
        "rosita.recipe": recipe.name,
        "rosita.method": recipe.method,
        "rosita.kd_setting": recipe.kd_setting,
        "rosita.seed": str(recipe.seed),
        "rosita.shape": str(summary["student"]["shape"]),
        FINGERPRINT_TAG: fingerprint,
        SCORE_TAG: repr(summary["student"]["score"]),
        "rosita.majority_score": repr(summary["majority_score"]),
        "rosita.retention": "" if retention is None else repr(retention),
    }


def method_said(summary: dict[str, Any]) -> str:
    """How it was compressed, in three words."""
    method = summary["method"]
    return f"KD setting {summary['kd_setting']}" if method == "rosita" else f"method {method}"


def description(summary: dict[str, Any]) -> str:
    """A compressed model in two sentences: of its run, and of its version in the registry."""
    student, retention = summary["student"], summary["retention"]
    kept = "" if retention is None else f", {100 * retention:.1f} % of its teacher's"
    return (
        f"{student['shape']}, {student['params']:,} parameters, {summary['compression']:.2f}x fewer"
        f" than its teacher; {summary['score_name']} {student['score']:.4f}{kept} on "
        f"{summary['dev_rows']:,} dev rows, where {summary['majority_score']:.4f} takes no model. "
        f"Recipe {summary['recipe']}, {method_said(summary)}, seed {summary['seed']}."
    )


def comparison_rows(summary: dict[str, Any]) -> list[dict[str, str]]:
    """Teacher against student, a row per quantity, as text."""
    teacher, student = summary["teacher"], summary["student"]
    rows = [_row("shape", teacher["shape"], student["shape"], "")]
    for label, field in (
        ("parameters", "params"),
        ("  embedding", "params_embedding"),
        ("  encoder", "params_encoder"),
        ("  pooler and classifier", "params_head"),
        (f"multiply-adds, {summary['macs_tokens']} tokens", "macs"),
    ):
        rows.append(_ratio_row(label, teacher[field], student[field], "{:,.0f}"))
    # The metric that compares models leads.
    metrics = teacher["metrics"]
    for name in sorted(metrics, key=lambda name: (name != summary["score_name"], name)):
        value = metrics[name]
        ours = student["metrics"][name]
        counts = value > 0 and name not in NO_SHARE
        kept = f"{100 * ours / value:.1f} % kept" if counts else ""
        rows.append(_row(f"dev {name}", f"{value:.4f}", f"{ours:.4f}", kept))
        if name == summary["score_name"]:
            rows += _beside_score(summary)
            rows += [
                _row(f"dev {name}, {BASELINES[kind]}", f"{score:.4f}", "", "")
                for kind, score in summary["baselines"].items()
                if kind in BASELINES
            ]
    tokens = summary["latency_tokens"]
    for field in sorted(
        (key for key in teacher if key.startswith(LATENCY)),
        key=lambda key: int(key.rpartition("b")[2]),
    ):
        label = f"latency p50, batch {field.rpartition('b')[2]} x {tokens} tokens (ms)"
        rows.append(_ratio_row(label, teacher[field], student[field], "{:,.2f}"))
    rows.append(_ratio_row("size on disk (MB)", teacher["disk_mb"], student["disk_mb"], "{:,.1f}"))
    return rows


def _beside_score(summary: dict[str, Any]) -> list[dict[str, str]]:
    """What no model reaches, and how often the two say the same."""
    chance, same = f"{summary['majority_score']:.4f}", summary["agreement"]
    if same is None:
        return [_row("  a constant answer", chance, chance, "")]
    return [
        _row("  the most frequent class alone", chance, chance, ""),
        _row("  rows on which both say the same", "", "", f"{100 * same:.1f} %"),
    ]


def _row(quantity: str, teacher: str, student: str, change: str) -> dict[str, str]:
    return {"": quantity, "teacher": teacher, "student": student, "change": change}


def _ratio_row(label: str, teacher: float, student: float, form: str) -> dict[str, str]:
    change = f"{teacher / student:.2f}x less" if student else ""
    return _row(label, form.format(teacher), form.format(student), change)

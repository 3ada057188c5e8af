"""What a compression achieved: the teacher and the student next to each other, kept as files.

Letters: N rows of a split, C outputs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rosita_core.measuring.latency import Latency
from rosita_core.model.shape import ParameterCount

TEACHER, STUDENT = "teacher", "student"
REPORT_FILE = "assessment.json"
PREDICTIONS_FILE = "predictions.parquet"
_FORMAT = 1


@dataclass(frozen=True)
class ModelAssessment:
    """One model.

    Attributes:
        shape: such as a2_l8_f512_e128.
        params: its parameters.
        macs: multiply-adds of one sequence of `Assessment.macs_tokens` tokens.
        score: the metric that compares models, on the split "dev".
        metrics: all metrics; those of a further split end in its name (accuracy_mismatched).
        latencies: by batch size and length.
        logits: for every split (N, C), float32, in the order of its rows.
    """

    shape: str
    params: ParameterCount
    macs: int
    score: float
    metrics: dict[str, float]
    latencies: tuple[Latency, ...]
    logits: dict[str, np.ndarray]


@dataclass(frozen=True)
class Assessment:
    """Several models on the same rows.

    Attributes:
        models: by name; "teacher" and "student" are always there.
        labels: for every split (N,).
        score_name: the metric that is the score.
        macs_tokens: length at which multiply-adds were counted.
        device, precision, threads: under which latencies were taken.
    """

    models: dict[str, ModelAssessment]
    labels: dict[str, np.ndarray]
    score_name: str
    macs_tokens: int
    device: str
    precision: str
    threads: int

    @property
    def compression(self) -> float:
        """How many times fewer parameters the student has than the teacher."""
        return self.models[TEACHER].params.total / self.models[STUDENT].params.total

    @property
    def retention(self) -> float | None:
        """Student score / teacher score.

        None where the teacher's score is zero or negative (a correlation can be): nothing was
        there to be kept, and the ratio would mislead.
        """
        teacher = self.models[TEACHER].score
        return self.models[STUDENT].score / teacher if teacher > 0 else None


def summary_metrics(model: ModelAssessment) -> dict[str, float]:
    """The numbers of one model under the names that runs are compared by."""
    found = {
        "params": float(model.params.total),
        "params_embedding": float(model.params.embedding),
        "params_encoder": float(model.params.encoder),
        "macs": float(model.macs),
        "score": model.score,
    }
    timed = {f"latency_ms_p50_b{one.batch_size}": one.p50_ms for one in model.latencies}
    return found | timed


def assessment_to_json(assessment: Assessment) -> dict[str, Any]:
    """Everything but the logits, as plain values."""
    return {
        "format": _FORMAT,
        "models": {
            name: {
                "shape": model.shape,
                "params": asdict(model.params) | {"total": model.params.total},
                "macs": model.macs,
                "score": model.score,
                "metrics": dict(model.metrics),
                "latencies": [asdict(latency) for latency in model.latencies],
            }
            for name, model in assessment.models.items()
        },
        "rows": {split: len(labels) for split, labels in assessment.labels.items()},
        "score_name": assessment.score_name,
        "macs_tokens": assessment.macs_tokens,
        "device": assessment.device,
        "precision": assessment.precision,
        "threads": assessment.threads,
        "compression": assessment.compression,
        "retention": assessment.retention,
    }


def write_assessment(assessment: Assessment, folder: Path) -> None:
    """Write assessment.json and predictions.parquet into `folder`, which is made where missing.

    predictions.parquet has a row for every row of every split: `split`, `row`, `label`, and for
    every model its logits `<model>_0`, `<model>_1`, and so on. The same assessment gives the same
    bytes under the same version of pyarrow.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = assessment_to_json(assessment)
    text = json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")
    tables = [_predictions(assessment, split) for split in sorted(assessment.labels)]
    # Without the Arrow schema in the file's metadata, which carries library versions.
    pq.write_table(
        pa.concat_tables(tables), folder / PREDICTIONS_FILE, compression="zstd", store_schema=False
    )


def read_assessment(folder: Path) -> Assessment:
    """Read what `write_assessment` wrote.

    Raises:
        ValueError: where `folder` holds no assessment, or one of another format.
    """
    file = folder / REPORT_FILE
    if not file.is_file():
        raise ValueError(f"assessment must be a directory with {REPORT_FILE}, got {folder}")
    plain = json.loads(file.read_text(encoding="utf-8"))
    if plain["format"] != _FORMAT:
        raise ValueError(f"format of {file} must be {_FORMAT}, got {plain['format']}")
    table = pq.read_table(folder / PREDICTIONS_FILE)
    splits = np.array(table.column("split").to_pylist())
    selections = {split: splits == split for split in plain["rows"]}
    labels = table.column("label").to_numpy()
    models = {}
    for name, model in plain["models"].items():
        outputs = [c for c in table.column_names if c.rpartition("_")[0] == name]
        logits_NC = np.stack([table.column(column).to_numpy() for column in outputs], axis=1)
        parts = {part: model["params"][part] for part in ("embedding", "encoder", "head")}
        models[name] = ModelAssessment(
            shape=model["shape"],
            params=ParameterCount(**parts),
            macs=model["macs"],
            score=model["score"],
            metrics=model["metrics"],
            latencies=tuple(Latency(**latency) for latency in model["latencies"]),
            logits={split: logits_NC[rows] for split, rows in selections.items()},
        )
    return Assessment(
        models=models,
        labels={split: labels[rows] for split, rows in selections.items()},
        score_name=plain["score_name"],
        macs_tokens=plain["macs_tokens"],
        device=plain["device"],
        precision=plain["precision"],
        threads=plain["threads"],
    )


def _predictions(assessment: Assessment, split: str) -> pa.Table:
    labels = assessment.labels[split]
    columns = {
        "split": pa.array([split] * len(labels), pa.string()),
        "row": pa.array(np.arange(len(labels))),
        "label": pa.array(labels),
    }
    for name in sorted(assessment.models):
        logits_NC = assessment.models[name].logits[split]
        for output in range(logits_NC.shape[1]):
            columns[f"{name}_{output}"] = pa.array(logits_NC[:, output])
    return pa.table(columns)

"""A compressed model on labelled rows: scores, who is taken for whom, and calibration."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from flows.recipes.schema import OWN_TASK
from flows.serving.answer_file import Writer, answer_file, answers_of
from flows.serving.input_file import PART_ROWS
from flows.serving.lookup import FoundModel, run_of
from flows.serving.predict import Predictor, answers, predict
from rosita_core.class_names import label_name
from rosita_core.data.readers.files import encoded_labels
from rosita_core.data.readers.parts import RowFile
from rosita_core.data.sources import source_digest
from rosita_core.data.task_spec import Kind
from rosita_core.measuring.calibration import calibration_error
from rosita_core.measuring.metrics import compute_metrics
from rosita_core.measuring.score import predictions_of
from tasks.host.console import console
from tasks.tracking.runs import FLUSH_SECONDS, Tracking

CLASSIFICATION = ("accuracy", "macro_f1", "mcc")
REGRESSION = ("pearson", "spearman", "r2")
RMSE = "rmse"
MOST_CLASSES = 20
"""So many are shown one by one."""
LONGEST = 200  # letters of a class in the name of a metric


def evaluate(
    predictor: Predictor,
    rows: RowFile,
    batch_size: int,
    max_length: int | None,
    wrong: Callable[[pd.DataFrame], None],
    done: Callable[[int], None],
) -> dict[str, Any]:
    """What a model is worth on labelled rows.

    Args:
        predictor: the model.
        rows: texts with labels, as they stand in the data.
        batch_size: rows at a time.
        max_length: tokens per sequence; None for what the model can read.
        wrong: called with rows on which it is wrong, in parts; all columns, and its answers. Of a
            regression they are all rows.
        done: called with the number of rows that are done.

    Returns:
        `rows`, `metrics`, and of classes `classes` (precision, recall, f1 and rows of each) and
        `confusion` (true class -> predicted class -> rows).

    Raises:
        ValueError: for a label that the model does not know, before anything is computed, or a text
            that it cannot read.
    """
    from scipy.special import softmax
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    regression = not predictor.labels
    true_N = _true(rows, predictor)
    positions = predictor.model.config.max_position_embeddings
    logits, count = [], 0
    for texts, beside in rows.parts(PART_ROWS):
        part_NC = predict(
            *(predictor, texts.drop(columns="label"), batch_size),
            positions if max_length is None else max_length,
        )
        right_N = predictions_of(part_NC, regression) == true_N[count : count + len(part_NC)]
        answered = pd.concat([beside, answers(part_NC, predictor.labels)], axis=1)
        wrong(answered if regression else answered[~right_N])
        logits.append(part_NC)
        count += len(part_NC)
        done(count)
    logits_NC = np.concatenate(logits)
    found_N = predictions_of(logits_NC, regression)
    if regression:
        metrics = compute_metrics(REGRESSION, found_N, true_N)
        metrics[RMSE] = float(np.sqrt(np.square(found_N - true_N).mean()))
        return {"rows": count, "metrics": metrics}
    metrics = compute_metrics(CLASSIFICATION, found_N, true_N)
    if len(predictor.labels) == 2:
        metrics |= compute_metrics(("f1",), found_N, true_N)
    right_N = found_N == true_N
    shares_NC = softmax(logits_NC.astype(np.float64), axis=1)
    chosen_N = shares_NC[np.arange(len(found_N)), found_N]
    metrics["calibration_error"] = calibration_error(chosen_N, right_N)
    indices = list(range(len(predictor.labels)))
    parts = precision_recall_fscore_support(true_N, found_N, labels=indices, zero_division=0)
    names = ("precision", "recall", "f1")
    classes = {
        label: {name: float(part[index]) for name, part in zip(names, parts, strict=False)}
        | {"rows": int(parts[3][index])}
        for index, label in enumerate(predictor.labels)
    }
    counted_CC = confusion_matrix(true_N, found_N, labels=indices)
    confusion = {
        true: dict(zip(predictor.labels, map(int, row), strict=True))
        for true, row in zip(predictor.labels, counted_CC, strict=True)
    }
    return {"rows": count, "metrics": metrics, "classes": classes, "confusion": confusion}


def _true(rows: RowFile, predictor: Predictor) -> np.ndarray:
    """The labels of all rows as numbers: by the model's names of classes, or the data's."""
    kind: Kind = "classification" if predictor.labels else "regression"
    index: dict[str, int] = {}
    for names in (predictor.classes, predictor.labels):
        for position, name in enumerate(names):
            index.setdefault(label_name(name), position)
    found: list[int] | list[float] = []
    for texts, _ in rows.parts(PART_ROWS):
        found += encoded_labels(  # type: ignore[arg-type]
            texts["label"].tolist(), kind, index, "the model's classes", len(found) + 1
        )
    return np.array(found, np.int64 if predictor.labels else np.float64)


class WrongRows:
    """Where rows go on which a model is wrong.

    Attributes:
        rows: how many there were.
    """

    def __init__(self, writer: Writer | None) -> None:
        self._writer, self.rows = writer, 0

    def add(self, part: pd.DataFrame) -> None:
        """Some more of them."""
        self.rows += len(part)
        if self._writer is not None:
            self._writer.write(part)


@contextmanager
def wrong_rows(path: Path | None, rows: RowFile, labels: tuple[str, ...]) -> Iterator[WrongRows]:
    """A file for them, where one is asked for; see `answer_file`."""
    if path is None:
        yield WrongRows(None)
        return
    beside = (part for _, part in rows.parts(PART_ROWS))
    with answer_file(path, beside, answers_of(labels)) as writer:
        yield WrongRows(writer)


def record(document: dict[str, Any], found: FoundModel, source: Path, home: Path) -> str | None:
    """Log an evaluation as a run beside the model's own in MLflow; its id where it is known yet.

    A directory of one's own belongs to no run of this home, and is not logged.
    """
    if found.run_id is None:
        return None
    summary = run_of(found.run_id, home)
    if summary.version is None:
        return None
    tracking, version = Tracking(home), summary.version
    problem = version.name.removeprefix("rosita-")
    run = tracking.start_parent(
        *(problem, summary.recipe, {"evaluated": summary.run_id, "input": str(source)}),
        *(version.tags["rosita.seed"], None, version.tags["rosita.shape"]),
        name=f"evaluate {summary.recipe} on {source.name}",
    )
    digest = source_digest("files", OWN_TASK, None, str(source), None, ())
    rows = {"rows": document["rows"]}
    tracking.log_dataset(run, source.name, digest, str(source), rows, "evaluation")
    classes = document.get("classes", {})
    called = metric_names(tuple(classes)) if len(classes) <= MOST_CLASSES else {}
    of_classes = {
        f"{name}/{called[label]}": value
        for label, values in classes.items()
        for name, value in values.items()
        if label in called
    }
    tracking.log_text(run, "evaluation.json", json.dumps(document, indent=2))
    tracking.finish(run, "FINISHED", document["metrics"] | of_classes, {})
    tracking.flush(FLUSH_SECONDS)
    return tracking.run_id(run)


def metric_names(labels: tuple[str, ...]) -> dict[str, str]:
    """What MLflow takes as the names of classes: by their numbers where one is none of its own."""
    plain = {label: re.sub(r"[^\w\- ]", "_", label) for label in labels}
    if len(set(plain.values())) == len(labels) and all(len(one) <= LONGEST for one in labels):
        return plain
    return {label: f"class {number}" for number, label in enumerate(labels)}


def show_evaluation(document: dict[str, Any]) -> None:
    """The document of `evaluate` as tables."""
    out = console()
    scores = Table(title=f"{document['rows']:,} rows")
    scores.add_column("metric")
    scores.add_column("value", justify="right")
    for name, value in document["metrics"].items():
        # That of numbers is in their own unit.
        scores.add_row(name, f"{value:.6g}" if name == RMSE else f"{value:.4f}")
    out.print(scores)
    classes = document.get("classes", {})
    if not classes or len(classes) > MOST_CLASSES:
        return
    table = Table(title="classes, and as what their rows were taken")
    table.add_column("class")
    for name in ("rows", "precision", "recall", "f1", *classes):
        table.add_column(name, justify="right", overflow="fold")
    for label, found in classes.items():
        counts = document["confusion"][label].values()
        numbers = (f"{found[name]:.3f}" for name in ("precision", "recall", "f1"))
        table.add_row(label, f"{found['rows']:,}", *numbers, *(f"{count:,}" for count in counts))
    out.print(table)

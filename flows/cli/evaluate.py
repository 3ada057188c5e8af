"""The command that scores a compressed model on labelled rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.model import check_pair
from flows.cli.options import (
    BatchOption,
    DeviceOption,
    FirstOption,
    JsonOption,
    LengthOption,
    ModelOption,
    PrecisionOption,
    SecondOption,
    ThreadsOption,
    print_json,
)
from flows.serving import PREDICTION_BATCH


def evaluate(
    input_: Annotated[
        Path,
        typer.Option("--input", help="A CSV, TSV, JSON, JSONL or Parquet file of labelled rows."),
    ],
    text_a: FirstOption = None,
    text_b_column: SecondOption = None,
    label: Annotated[
        str | None,
        typer.Option(help="Its column of the class, or of the number; default likewise."),
    ] = None,
    model: ModelOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write the rows on which it is wrong (of a regression all), with all their "
            "columns and its answers, to this CSV, JSONL or Parquet file."
        ),
    ] = None,
    batch_size: BatchOption = PREDICTION_BATCH,
    max_length: LengthOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Score a compressed model on labelled rows of your own.

    Accuracy, macro F1, MCC, calibration error, and of each class precision, recall, F1 and as what
    its rows were taken; of a regression the correlations and the error. A run's model is scored in
    a run of MLflow of its own, beside that of the model. Columns of --input are called as in the
    data that the model was trained on, unless an option names another.
    """
    from flows.serving.lookup import compressed_model
    from tasks.home import home_directory

    home = home_directory()
    found = compressed_model(model, home)
    if model is None:
        print(f"model: {found.folder} (recipe {found.recipe}, run {found.run_id})", file=sys.stderr)
    from flows.engine.pages import mlflow_page, mlflow_pages
    from flows.serving.answer_file import answers_of, check_columns, check_output
    from flows.serving.evaluate import evaluate as evaluated
    from flows.serving.evaluate import record, show_evaluation, wrong_rows
    from flows.serving.input_file import counted, input_file
    from flows.serving.predict import load_predictor
    from tasks.host.hardware import resolve_numerics
    from tasks.tracking.runs import Tracking

    rows = input_file(input_, found.folder, text_a, text_b_column, label, labelled=True)
    if output is not None:
        check_output(output, input_)
    mlflow_pages(home)
    recorded = found.run_id is not None
    try:
        if recorded:
            Tracking(home)
    except OSError as error:
        # Of a home that one may only read.
        print(f"rosita: MLflow will not have the evaluation: {error}", file=sys.stderr)
        recorded = False
    predictor = load_predictor(found.folder, resolve_numerics(device, precision, threads, False))
    check_pair(predictor.pair, found, "text_b" in rows.roles)
    if output is not None:
        check_columns(rows.columns, answers_of(predictor.labels))
    with (
        wrong_rows(output, rows, predictor.labels) as wrong,
        counted(f"evaluating {input_.name}", "row", rows.rows) as done,
    ):
        document = evaluated(predictor, rows, batch_size, max_length, wrong.add, done)
    said = {"model": str(found.folder), "run_id": found.run_id, "input": str(input_)}
    run = record(document, found, input_, home) if recorded else None
    document = said | document | {"mlflow_run_id": run}
    if json_:
        print_json(document)
        return
    show_evaluation(document)
    if output is not None:
        print(f"{wrong.rows:,} rows: {output}")
    if document["mlflow_run_id"] is not None:
        print(f"MLflow run: {document['mlflow_run_id']}")
    if (page := mlflow_page(home, document["mlflow_run_id"])) is not None:
        print(f"at MLflow:  {page}")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)

"""Commands that use a compressed model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.serving import PREDICTION_BATCH

if TYPE_CHECKING:
    import pandas as pd

    from flows.serving.lookup import FoundModel

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<index>.")]
PrecisionOption = Annotated[str, typer.Option(help="fp32, bf16 or auto.")]
ModelOption = Annotated[
    str | None,
    typer.Option(help="A checkpoint directory, or a run (see `rosita runs`); else the newest."),
]
SecondOption = Annotated[
    str | None, typer.Option("--text-b-column", help="Its column of the second text.")
]
BatchOption = Annotated[int, typer.Option(help="Rows at a time.")]
LengthOption = Annotated[
    int | None, typer.Option(help="Tokens per text; default what the model can read.")
]
ThreadsOption = Annotated[str, typer.Option(help="CPU threads: a number, or auto for all cores.")]


def predict(
    text: Annotated[
        str | None, typer.Argument(help="The text; without it standard input, one text a line.")
    ] = None,
    text_b: Annotated[
        str | None, typer.Option("--text-b", help="The second text, for a model of pairs.")
    ] = None,
    model: ModelOption = None,
    input_: Annotated[
        Path | None,
        typer.Option("--input", help="A CSV, TSV, JSON, JSONL or Parquet file of texts."),
    ] = None,
    text_a: Annotated[
        str | None, typer.Option("--text-a", help="Its column of the (first) text.")
    ] = None,
    text_b_column: SecondOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write the texts, with all other columns of --input, and the answers to this CSV, "
            "JSONL or Parquet file."
        ),
    ] = None,
    batch_size: BatchOption = PREDICTION_BATCH,
    max_length: LengthOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Classify text with a compressed model: the class and its probability, a line per text.

    A regression model answers with a number. Results go to stdout as tab-separated lines, or to
    the file of `--output` beside the texts and whatever else --input has.
    """
    _check_request(text, text_b, input_, text_a, text_b_column)
    from flows.serving.lookup import compressed_model
    from tasks.home import home_directory

    found = compressed_model(model, home_directory())
    if model is None:
        print(f"model: {found.folder} (recipe {found.recipe}, run {found.run_id})", file=sys.stderr)
    import pandas as pd

    from flows.serving.predict import check_output, load_predictor, write_answers
    from tasks.host.hardware import resolve_numerics

    texts = _texts(text, text_b, input_, text_a, text_b_column)
    beside = pd.DataFrame()
    if output is not None:
        beside = _beside(texts, input_)
        check_output(output, tuple(beside.columns))
    numerics = resolve_numerics(device, precision, threads, False)
    predictor = load_predictor(found.folder, numerics)
    _check_pair(predictor.pair, found, "text_b" in texts)
    answered = predictor.answer(texts, batch_size, max_length)
    if output is not None:
        write_answers(pd.concat([beside, answered], axis=1), output)
    if json_:
        document = {
            "model": str(found.folder),
            "run_id": found.run_id,
            "labels": list(predictor.labels),
            "rows": len(answered),
            "output": None if output is None else str(output),
        }
        # A file takes the place of the list: it may be long.
        listed = {} if output else {"predictions": answered.to_dict(orient="records")}
        print(json.dumps({**document, **listed}, indent=2))
    elif output is not None:
        print(f"{len(answered):,} rows: {output}")
    else:
        for row in answered.itertuples(index=False):
            print("\t".join(f"{cell:.4f}" if isinstance(cell, float) else cell for cell in row))


def evaluate(
    input_: Annotated[
        Path,
        typer.Option("--input", help="A CSV, TSV, JSON, JSONL or Parquet file of labelled rows."),
    ],
    text_a: Annotated[
        str, typer.Option("--text-a", help="Its column of the (first) text.")
    ] = "text",
    text_b_column: SecondOption = None,
    label: Annotated[
        str, typer.Option(help="Its column of the class, or of the number.")
    ] = "label",
    model: ModelOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write the rows on which it is wrong (of a regression all) with its answers to "
            "this CSV, JSONL or Parquet file."
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
    a run of MLflow of its own, beside that of the model.
    """
    from flows.serving.lookup import compressed_model
    from tasks.home import home_directory

    home = home_directory()
    found = compressed_model(model, home)
    if model is None:
        print(f"model: {found.folder} (recipe {found.recipe}, run {found.run_id})", file=sys.stderr)
    from flows.serving.evaluate import evaluate as evaluated
    from flows.serving.evaluate import record, show_evaluation
    from flows.serving.predict import check_output, load_predictor, write_answers
    from tasks.host.hardware import resolve_numerics

    rows = _table(input_, text_a, text_b_column, label)
    titles = {"text_a": text_a, "text_b": text_b_column, "label": label}
    if output is not None:
        check_output(output, tuple(name for name in titles.values() if name is not None))
    predictor = load_predictor(found.folder, resolve_numerics(device, precision, threads, False))
    _check_pair(predictor.pair, found, text_b_column is not None)
    document, wrong = evaluated(predictor, rows, batch_size, max_length)
    if output is not None:
        write_answers(wrong.rename(columns=titles), output)
    said = {"model": str(found.folder), "run_id": found.run_id, "input": str(input_)}
    document = said | document | {"mlflow_run_id": record(document, found, input_, home)}
    if json_:
        print(json.dumps(document, indent=2))
        return
    show_evaluation(document)
    if output is not None:
        print(f"{len(wrong):,} rows: {output}")
    if document["mlflow_run_id"] is not None:
        print(f"MLflow run: {document['mlflow_run_id']}")


def benchmark(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Checkpoint directories or runs (see `rosita runs`); default teacher and student "
            "of the newest run.",
        ),
    ] = None,
    batch_size: Annotated[
        list[int] | None, typer.Option(help="Repeatable; default as in the recipes: 1 and 32.")
    ] = None,
    tokens: Annotated[int | None, typer.Option(help="Length of every sequence.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Timed passes of each model.")] = None,
    warmup: Annotated[int | None, typer.Option(help="Rounds before them.")] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            help="Repeatable: torch-fp32, torch-bf16, torch-compiled, onnx, onnx-int8; default "
            "all that this machine has."
        ),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = "auto",
    plot: Annotated[
        Path | None, typer.Option(help="Draw the medians into this PNG, SVG or PDF file.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Time models in several engines, each in its own process, in turns.

    Latency p50 and p95, memory, size of weights, and how many times faster than the first model in
    PyTorch and in the same engine, beside parameters and multiply-adds.
    """
    from flows.recipes.schema import Assess
    from flows.serving.benchmark import (
        SpeedSettings,
        check_plot,
        compare_speed,
        models_to_time,
        plot_speed,
        show_speed,
        usual_engines,
    )
    from tasks.home import home_directory
    from tasks.host.hardware import resolve_numerics

    if plot is not None:
        check_plot(plot)
    # What is not given is measured as `rosita compress` measures it.
    usual = Assess()
    numerics = resolve_numerics(device, "fp32", threads, False)
    settings = SpeedSettings(
        engines=tuple(engine or usual_engines(numerics.device)),
        batch_sizes=tuple(batch_size or usual.latency_batch_sizes),
        tokens=usual.latency_tokens if tokens is None else tokens,
        repeats=usual.latency_repeats if repeats is None else repeats,
        warmup=usual.latency_warmup if warmup is None else warmup,
    )
    document = compare_speed(models_to_time(models or [], home_directory()), settings, numerics)
    if plot is not None:
        plot_speed(document, plot)
    if json_:
        print(json.dumps(document, indent=2))
    else:
        show_speed(document)


def runs(json_: JsonOption = False) -> None:
    """List the runs of this home; every command takes the ids and names in it."""
    from dataclasses import asdict

    from flows.serving.runs import list_runs, show_runs
    from tasks.home import home_directory

    found = list_runs(home_directory())
    if json_:
        print(json.dumps({"runs": [asdict(one) for one in found]}, indent=2))
    else:
        show_runs(found, home_directory())


def promote(
    run: Annotated[
        str,
        typer.Argument(help="A run or cell (see `rosita runs`), or a grid: its best cell."),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Register what its recipe's gate keeps out.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Register the model of a cell, or of a run that its gate kept out, in MLflow."""
    from flows.serving.promotion import promote as register
    from tasks.home import home_directory

    document = register(run, home_directory(), force)
    registered = document["registered_model"]
    if json_:
        print(json.dumps(document, indent=2))
    elif registered is None:
        print("MLflow does not answer: `rosita sync` sends what is kept")
    else:
        print(f"{document['run_id']} is registered as {registered['uri']}")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(runs)
    app.command()(promote)
    app.command()(predict)
    app.command()(evaluate)
    app.command()(benchmark)


def _check_request(
    text: str | None,
    text_b: str | None,
    input_: Path | None,
    text_a: str | None,
    text_b_column: str | None,
) -> None:
    if text is not None and input_ is not None:
        raise ValueError(f"text must not be given together with --input, got {text!r}")
    if text_b is not None and text is None:
        raise ValueError(f"text_b must be given together with a text, got {text_b!r} alone")
    for name, value in (("text_a", text_a), ("text_b_column", text_b_column)):
        if value is not None and input_ is None:
            raise ValueError(f"{name} must be given together with --input, got {value!r} alone")
    if input_ is not None and text_a is None:
        raise ValueError("text_a must name the column of the text in --input, got none")
    for name, value in (("text", text), ("text_b", text_b)):
        if value is not None and not value.strip():
            raise ValueError(f"{name} must not be empty, got {value!r}")
    if text is None and input_ is None and sys.stdin.isatty():
        raise ValueError(
            "text must be given as an argument, with --input or on standard input, got none"
        )


def _texts(
    text: str | None,
    text_b: str | None,
    input_: Path | None,
    text_a: str | None,
    text_b_column: str | None,
) -> pd.DataFrame:
    from flows.serving.predict import read_lines, texts_frame

    if input_ is not None and text_a is not None:
        return _table(input_, text_a, text_b_column, None)
    if text is not None:
        return texts_frame([text], None if text_b is None else [text_b])
    return read_lines(sys.stdin.buffer.read())


def _table(input_: Path, text_a: str, text_b_column: str | None, label: str | None) -> pd.DataFrame:
    from rosita_core.data.messages import named
    from rosita_core.data.readers.files import read_table

    options = {
        "path must": "input must",
        "text_a must name": "text_a must name",
        "text_b must name": "text_b_column must name",
        "label must": "label must",
    }
    with named("input", options):
        return read_table(input_, text_a, text_b_column, label, ())


def _beside(texts: pd.DataFrame, input_: Path | None) -> pd.DataFrame:
    """What stands beside the answers: all columns of the input, where there is one."""
    if input_ is None:
        return texts.rename(columns={"text_a": "text"})
    from rosita_core.data.messages import named
    from rosita_core.data.readers.files import all_columns

    with named("input", {"path must": "input must"}):
        return all_columns(input_, ())


def _check_pair(pair: bool | None, found: FoundModel, given: bool) -> None:
    if pair is None or pair == given:
        return
    need = "two texts (--text-b, or --input with --text-b-column)" if pair else "one text"
    model = f"in {found.folder}" if found.recipe is None else f"of recipe {found.recipe}"
    raise ValueError(
        f"text_b must fit the model {model}, which reads {need}, "
        f"got {'two texts' if given else 'one text'}"
    )

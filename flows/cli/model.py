"""Commands that use a compressed model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from rosita_core.class_names import is_blank

if TYPE_CHECKING:
    from flows.serving.input_file import Source
    from flows.serving.lookup import FoundModel


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
    text_a: FirstOption = None,
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
    the file of `--output` beside the texts and whatever else --input has. Columns of --input are
    called as in the data that the model was trained on, unless an option names another. A file is
    read and written a part at a time.
    """
    _check_request(text, text_b, input_, text_a, text_b_column)
    from flows.serving.lookup import compressed_model
    from tasks.home import home_directory

    found = compressed_model(model, home_directory())
    if model is None:
        print(f"model: {found.folder} (recipe {found.recipe}, run {found.run_id})", file=sys.stderr)
    from flows.serving.predict import load_predictor
    from tasks.host.hardware import resolve_numerics

    if input_ is not None:
        from flows.serving.input_file import input_file

        source: Source = input_file(
            input_, found.folder, text_a, text_b_column, label=None, labelled=False
        )
    else:
        source = _typed(text, text_b)
    from flows.serving.answer_file import (
        answered,
        answers_of,
        check_columns,
        check_output,
        write_answers,
    )

    if output is not None:
        check_output(output, input_)
    predictor = load_predictor(found.folder, resolve_numerics(device, precision, threads, False))
    check_pair(predictor.pair, found, "text_b" in source.roles)
    if output is not None:
        check_columns(source.columns, answers_of(predictor.labels))
    document: dict[str, Any] = {
        "model": str(found.folder),
        "run_id": found.run_id,
        "labels": list(predictor.labels),
        "rows": source.rows,
        "output": None if output is None else str(output),
    }
    if output is not None:
        write_answers(predictor, source, batch_size, max_length, output)
        # The file takes the place of the list: it may be long.
        print_json(document) if json_ else print(f"{source.rows:,} rows: {output}")
        return
    answers = (part for _, part in answered(predictor, source, batch_size, max_length))
    if json_:
        listed = [row for part in answers for row in part.to_dict(orient="records")]
        print_json(document | {"predictions": listed})
        return
    for part in answers:
        for row in part.itertuples(index=False):
            print("\t".join(f"{cell:.4f}" if isinstance(cell, float) else cell for cell in row))


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
    from tasks.host.private_files import users_files

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
        with users_files():
            plot_speed(document, plot)
    if json_:
        print_json(document)
    else:
        show_speed(document)


def runs(json_: JsonOption = False) -> None:
    """List the runs of this home; every command takes the ids and names in it."""
    from dataclasses import asdict

    from flows.serving.runs import list_runs, show_runs
    from tasks.home import home_directory

    found = list_runs(home_directory())
    if json_:
        print_json({"runs": [asdict(one) for one in found]})
    else:
        show_runs(found, home_directory())


def promote(
    run: Annotated[
        str,
        typer.Argument(
            help="A run or cell (see `rosita runs`), or a grid: its best cell that passes the gate."
        ),
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
        print_json(document)
    elif registered is None:
        print("MLflow does not answer: `rosita sync` sends what is kept")
    else:
        print(f"{document['run_id']} is registered as {registered['uri']}")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(runs)
    app.command()(promote)
    app.command()(predict)
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
    for name, value in (("text", text), ("text_b", text_b)):
        if value is not None and is_blank(value):
            raise ValueError(f"{name} must not be empty, got {value!r}")
    if text is None and input_ is None and sys.stdin.isatty():
        raise ValueError(
            "text must be given as an argument, with --input or on standard input, got none"
        )


def _typed(text: str | None, text_b: str | None) -> Source:
    from flows.serving.input_file import Typed
    from flows.serving.predict import read_lines, texts_frame

    if text is not None:
        return Typed(texts_frame([text], None if text_b is None else [text_b]))
    return Typed(read_lines(sys.stdin.buffer.read()))


def check_pair(pair: bool | None, found: FoundModel, given: bool) -> None:
    if pair is None or pair == given:
        return
    need = "two texts (--text-b, or --input with --text-b-column)" if pair else "one text"
    model = f"in {found.folder}" if found.recipe is None else f"of recipe {found.recipe}"
    raise ValueError(
        f"text_b must fit the model {model}, which reads {need}, "
        f"got {'two texts' if given else 'one text'}"
    )

"""The command that takes a compressed model out of the store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import JsonOption, ModelOption, print_json


def export(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="A directory that is new or empty; may be left out with --push-to-hub."
        ),
    ] = None,
    model: ModelOption = None,
    format_: Annotated[
        str, typer.Option("--format", help="hugging-face, onnx or onnx-int8.")
    ] = "hugging-face",
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            help="Send it to this repository of the Hugging Face hub, by the token in HF_TOKEN."
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Copy a compressed model out of the store: a Hugging Face checkpoint to take anywhere.

    It has its own model code: transformers loads it with trust_remote_code=True where this project
    is not installed. Its README.md is a model card. onnx and onnx-int8 have a graph and predict.py
    instead, which needs onnxruntime, tokenizers and numpy alone. With --push-to-hub the checkpoint
    goes to the hub, where the card says what it is made of; a repository that is new is private.
    """
    if folder is None and push_to_hub is None:
        raise ValueError("folder must be given where there is no --push-to-hub, got none")
    if push_to_hub is not None and format_ != "hugging-face":
        raise ValueError(f"format must be hugging-face with --push-to-hub, got {format_}")
    from tempfile import TemporaryDirectory

    from flows.serving.export import export_model, size_of
    from flows.serving.lookup import compressed_model
    from tasks.home import home_directory
    from tasks.host.wording import size

    found = compressed_model(model, home_directory())
    document = {"model": None if folder is None else str(folder), "run_id": found.run_id}
    with TemporaryDirectory() as passing:
        target = Path(passing) / "model" if folder is None else folder
        if push_to_hub is None:
            export_model(found.folder, target, format_)
        else:
            from flows.serving.publish import open_hub, publish

            hub = open_hub(push_to_hub)
            export_model(found.folder, target, format_)
            document["hub"] = publish(hub, target, push_to_hub)
        size_of_files = size_of(target)
    if json_:
        print_json(document | {"bytes": size_of_files})
        return
    if found.run_id is not None:
        print(f"recipe {found.recipe}, run {found.run_id}", file=sys.stderr)
    print(f"{document.get('hub', folder)}: {size(size_of_files)}")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)

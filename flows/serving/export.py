"""A model copied out of the store, or converted, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from flows.serving.predict import check_whole
from rosita_core.export import CHECKPOINT, GRAPH, place
from rosita_core.model.weights import check_finite
from rosita_core.plug_ins import make
from tasks.host.new_folder import new_folder


def export_model(source: Path, target: Path, name: str) -> None:
    """Write a model in a format; what is written belongs to the user, who may change it.

    Where the stage `export` has written that format it is copied, and else it is made of the
    checkpoint.

    Args:
        source: an exported model, or a checkpoint directory.
        target: a directory that is new or empty.
        name: of the format.

    Raises:
        ValueError: where `source` is no whole classifier, there is no such format, `target` exists
            and is no empty directory, or it cannot be written.
    """
    # How much int8 may lose is asked by the stage `export`, which has rows.
    form = make("export", name, int8_loss=0.0)
    written = place(source, name)
    if (source / GRAPH).is_file():
        raise ValueError(f"model must be a checkpoint to be exported, got a graph in {source}")
    check_finite(check_whole(source))
    with new_folder(target, "folder") as whole:
        if written.is_dir():
            # Other formats below it are left out, and the store's permissions too.
            make("export", CHECKPOINT).write(written, whole)
        else:
            # A format may read the tokenizer, and transformers then asks for the kind of its model.
            import rosita_core.model.register  # noqa: F401

            form.write(source, whole)


def size_of(folder: Path) -> int:
    """Bytes of all files in a directory."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

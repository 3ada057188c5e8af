"""A model as an ONNX graph: written, quantized, and read by ONNX Runtime.

Both are imported by what uses them, so that a recipe can name a format quickly.

Letters: B batch, T tokens, C outputs.
"""

from __future__ import annotations

import inspect
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from rosita_core.data.framing import load_tokenizer
from rosita_core.export import GRAPH
from rosita_core.model.checkpoint import build
from rosita_core.model.families import family_of
from rosita_core.model.labels import check_names, class_names
from rosita_core.model.locate import config_of
from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification

RUNTIME = "predict.py"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "logits"
EXAMPLE = (2, 3)
"""B and T of the inputs that the graph is recorded with; both may be others later."""
CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
WEIGHTS = "model.safetensors"
NOT_TAKEN = ("*.safetensors", "modeling_*.py", "README.md")


class GraphClassifier:
    """A graph behind the call of our model; ONNX Runtime computes it on the CPU."""

    training = False

    def __init__(self, folder: Path, threads: int) -> None:
        """Open the graph in `folder`.

        Raises:
            ValueError: where it does not take the inputs of the model, the mask among them.
        """
        import onnxruntime

        config = config_of(folder)
        names = class_names(config, str(folder))
        check_names(names, config, str(folder))
        if config["model_type"] != RositaConfig.model_type:
            raise ValueError(
                f"graph must be one that was made of a compressed model, got a "
                f"{config['model_type']} in {folder}"
            )
        self.config = family_of(config, str(folder)).config(config, len(names))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        path = folder / GRAPH
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        # onnxruntime has a class of its own for every kind of wrong file.
        except Exception as error:
            cause = " ".join(str(error).split())
            raise ValueError(f"model must be a graph of ONNX, got {path}: {cause}") from None
        found = tuple(one.name for one in self._session.get_inputs())
        if found != INPUTS:
            raise ValueError(
                f"graph must take {', '.join(INPUTS)}, got {', '.join(found) or 'none'} in {path}"
            )
        said = {one.name: list(one.shape) for one in self._session.get_outputs()}
        if said.keys() != {OUTPUT} or said[OUTPUT][-1] != len(names):
            raise ValueError(
                f"graph must say {OUTPUT} of {len(names)} classes, as config.json has, "
                f"got {said} in {path}"
            )

    def __call__(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
    ) -> SequenceClassifierOutput:
        """Logits (B, C) of inputs (B, T)."""
        given = zip(INPUTS, (input_ids, attention_mask, token_type_ids), strict=True)
        try:
            (logits_BC,) = self._session.run([OUTPUT], {name: one.numpy() for name, one in given})
        # As in the constructor.
        except Exception as error:
            cause = " ".join(str(error).split())
            raise ValueError(
                f"graph must answer texts of {input_ids.shape[1]} tokens, as config.json has it, "
                f"got: {cause}"
            ) from None
        return SequenceClassifierOutput(logits=torch.from_numpy(logits_BC))


class _Logits(nn.Module):
    """The model with its logits alone."""

    def __init__(self, model: RositaForSequenceClassification) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        positions = None
        if not self.model.config.positions_skip_padding:
            # Looked up, as words are: `quantize` leaves a table whole of which a slice is taken.
            positions = torch.arange(ids.shape[1])[None]
        return self.model(ids, mask, types, positions).logits


def write_graph(model: RositaForSequenceClassification, folder: Path) -> None:
    """Write a model, which is not changed, as a graph of dynamic batch and length."""
    import onnx

    config = RositaConfig.from_dict(model.config.to_dict())
    # Its plain products make a smaller graph than what stands for the fused attention.
    config._attn_implementation = "eager"
    wrapped = _Logits(build(config, model.state_dict()).eval().requires_grad_(False))
    batch = torch.export.Dim("batch")
    tokens = torch.export.Dim("tokens", max=config.max_position_embeddings)
    # Three tensors: what is given twice would be recorded as one input.
    ids, mask, types = (torch.ones(EXAMPLE, dtype=torch.long) for _ in INPUTS)
    with _quiet():
        program = torch.onnx.export(
            wrapped,
            (ids, mask, types),
            dynamo=True,
            input_names=INPUTS,
            output_names=[OUTPUT],
            dynamic_shapes=tuple({0: batch, 1: tokens} for _ in INPUTS),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    # Where the source of each node lies on this machine.
    for node in proto.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    onnx.save(proto, folder / GRAPH)


def quantize(source: Path, target: Path) -> None:
    """Write the graph of one folder into another with weights of int8, the embedding's too.

    Activations become integers as they come, so that no rows are needed. Weights use 7 of their 8
    bits: processors without VNNI add up pairs of products in 16 bits, which 8 would overflow.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            source / GRAPH,
            target / GRAPH,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )


def write_runtime(checkpoint: Path, folder: Path) -> None:
    """Write what a graph needs beside it: configuration, tokenizer and `predict.py`.

    Raises:
        ValueError: where the checkpoint is none of ours.
    """
    from rosita_core.export.runtime import predict

    config = json.loads((checkpoint / CONFIG).read_text(encoding="utf-8"))
    if config["model_type"] != RositaConfig.model_type or not (checkpoint / WEIGHTS).is_file():
        raise ValueError(
            f"model must be a checkpoint of a compressed model to become a graph, got a "
            f"{config['model_type']} in {checkpoint}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for path in checkpoint.iterdir():
        if path.is_file() and not any(path.match(pattern) for pattern in NOT_TAKEN):
            (folder / path.name).write_bytes(path.read_bytes())
    # There is no code of the model here.
    config.pop("auto_map", None)
    _write_json(config, folder / CONFIG)
    said = json.loads((folder / TOKENIZER_CONFIG).read_text(encoding="utf-8"))
    # Some tokenizers know types that their models do not read.
    said["model_input_names"] = load_tokenizer(checkpoint).model_input_names
    _write_json(said, folder / TOKENIZER_CONFIG)
    (folder / RUNTIME).write_text(inspect.getsource(predict), encoding="utf-8")


def _write_json(values: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' talk of other packages and of their own steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)

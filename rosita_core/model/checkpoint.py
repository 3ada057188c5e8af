"""From a BERT checkpoint to the model of this package, and that model to and from a directory."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

import rosita_core.model.register  # noqa: F401  (Auto classes then load what `save` writes)
from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification
from rosita_core.model.shape import Frame, Shape

SUPPORTED = ("bert", "rosita")


def shape_of(config: RositaConfig) -> Shape:
    """The shape that a model of `config` has."""
    frame = Frame(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        head_size=config.head_size,
        max_positions=config.max_position_embeddings,
        token_types=config.type_vocab_size,
        outputs=config.outputs,
    )
    heads, units = tuple(config.layer_heads), tuple(config.layer_ffn_units)
    return Shape(frame, heads, units, config.embedding_rank)


def config_of(source: BertConfig, outputs: int, problem_type: str) -> RositaConfig:
    """The configuration that describes an unpruned BERT of `source` with `outputs` outputs."""
    layers = source.num_hidden_layers
    return RositaConfig(
        vocab_size=source.vocab_size,
        hidden_size=source.hidden_size,
        head_size=source.hidden_size // source.num_attention_heads,
        layer_heads=[source.num_attention_heads] * layers,
        layer_ffn_units=[source.intermediate_size] * layers,
        embedding_rank=None,
        max_position_embeddings=source.max_position_embeddings,
        type_vocab_size=source.type_vocab_size,
        hidden_act=source.hidden_act,
        hidden_dropout_prob=source.hidden_dropout_prob,
        attention_probs_dropout_prob=source.attention_probs_dropout_prob,
        classifier_dropout=source.classifier_dropout,
        layer_norm_eps=source.layer_norm_eps,
        pad_token_id=source.pad_token_id,
        initializer_range=source.initializer_range,
        num_labels=outputs,
        problem_type=problem_type,
    )


def with_dropout(
    model: RositaForSequenceClassification, rate: float
) -> RositaForSequenceClassification:
    """`model` with every dropout rate at `rate`, in its mode; weights are shared, not copied."""
    config = RositaConfig.from_dict(model.config.to_dict())
    config.hidden_dropout_prob = rate
    config.attention_probs_dropout_prob = rate
    config.classifier_dropout = rate
    return build(config, model.state_dict()).train(model.training)


def build(config: RositaConfig, state: dict[str, torch.Tensor]) -> RositaForSequenceClassification:
    """A model of `config` that holds the tensors of `state` themselves (nothing is copied).

    It is in train mode and all its parameters take gradients.

    Raises:
        RuntimeError: where a name or a shape of `state` does not fit `config`.
    """
    with torch.device("meta"):
        model = RositaForSequenceClassification(config)
    model.load_state_dict(state, strict=True, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def placed(model: RositaForSequenceClassification, device: str) -> RositaForSequenceClassification:
    """`model` on `device`, in its mode; weights that are there already are shared, not copied."""
    state = {name: tensor.to(device) for name, tensor in model.state_dict().items()}
    return build(model.config, state).train(model.training)


def copied(model: RositaForSequenceClassification, device: str) -> RositaForSequenceClassification:
    """`model` with weights of its own on `device`, in its mode."""
    state = {name: tensor.to(device, copy=True) for name, tensor in model.state_dict().items()}
    return build(copy.deepcopy(model.config), state).train(model.training)


def fresh(config: RositaConfig, seed: int) -> RositaForSequenceClassification:
    """A model of `config` with random weights drawn from `seed`, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RositaForSequenceClassification(config).eval()


def convert(
    source: BertForSequenceClassification, problem_type: str
) -> RositaForSequenceClassification:
    """The same function as `source`, in the model of this package: every logit is the same.

    The weights are copied; the mode is that of `source`.
    """
    config = config_of(source.config, source.classifier.out_features, problem_type)
    config.id2label, config.label2id = source.config.id2label, source.config.label2id
    state = {name: tensor.detach().clone() for name, tensor in source.state_dict().items()}
    return build(config, state).train(source.training)


def read_source_config(source: str) -> dict:
    """`config.json` of a checkpoint directory or, for a name that is no directory, of a hub model.

    Raises:
        ValueError: where the directory holds no checkpoint or the architecture is not BERT.
    """
    folder = Path(source)
    if folder.is_dir():
        path = folder / "config.json"
        if not path.is_file():
            raise ValueError(
                f"model must be a checkpoint directory with a config.json, got {source}"
            )
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"model: {path} must be JSON: {error}") from None
        if not list(folder.glob("*.safetensors")):
            raise ValueError(f"model must have weights in *.safetensors, found none in {source}")
    else:
        config = BertConfig.get_config_dict(source)[0]
    if config.get("model_type") not in SUPPORTED:
        raise ValueError(
            f"model must be of an architecture in {SUPPORTED}, "
            f"got {config.get('model_type')!r} in {source}"
        )
    positions = config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise ValueError(
            f"model must have absolute position embeddings, got {positions!r} in {source}"
        )
    return config


def load_pretrained(
    source: str, outputs: int, problem_type: str, seed: int
) -> RositaForSequenceClassification:
    """A pretrained or fine-tuned BERT with a classifier of `outputs` outputs, in eval mode.

    The classifier is kept where the checkpoint has one of the same size and drawn from `seed`
    otherwise; so is a missing pooler.

    Args:
        source: a checkpoint directory or a hub model; weights are read from safetensors only.
        outputs: C.
        problem_type: "single_label_classification" or "regression".
        seed: of the fresh classifier.

    Raises:
        ValueError: see `read_source_config`.
    """
    config = read_source_config(source)
    if config["model_type"] == "rosita":
        return _with_outputs(load(source), outputs, problem_type, seed)
    bert = BertConfig.from_dict(config)
    is_classifier = "BertForSequenceClassification" in (config.get("architectures") or [])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if is_classifier and bert.num_labels == outputs:
            whole = BertForSequenceClassification.from_pretrained(
                source, use_safetensors=True, dtype=torch.float32
            )
            return convert(whole, problem_type)
        model = RositaForSequenceClassification(config_of(bert, outputs, problem_type))
        body = BertModel.from_pretrained(source, use_safetensors=True, dtype=torch.float32)
    state = {f"bert.{name}": tensor for name, tensor in body.state_dict().items()}
    model.load_state_dict(state | _classifier(model), strict=True)
    return model.eval()


def _with_outputs(
    model: RositaForSequenceClassification, outputs: int, problem_type: str, seed: int
) -> RositaForSequenceClassification:
    values = model.config.to_dict() | {"problem_type": problem_type}
    if model.config.outputs == outputs:
        return build(RositaConfig.from_dict(values), model.state_dict()).eval()
    values = {name: value for name, value in values.items() if name not in ("id2label", "label2id")}
    config = RositaConfig.from_dict(values | {"num_labels": outputs})
    return build(config, model.state_dict() | _classifier(fresh(config, seed))).eval()


def _classifier(model: RositaForSequenceClassification) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    return {name: state[name] for name in state if name.startswith("classifier.")}


def save(model: RositaForSequenceClassification, folder: Path) -> None:
    """Write config.json and model.safetensors into `folder`."""
    model.save_pretrained(folder)


def load(folder: str | Path) -> RositaForSequenceClassification:
    """Read what `save` wrote, in float32 and eval mode."""
    model = RositaForSequenceClassification.from_pretrained(
        folder, use_safetensors=True, dtype=torch.float32
    )
    return model.eval()

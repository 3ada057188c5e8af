"""BERT (Devlin et al., 2019) and what shares its architecture, such as MiniLM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosita_core.model.families import Config, Family, check_positions, check_sizes
from rosita_core.model.shape import Frame, Shape, uniform_shape

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification

    from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification

# What a configuration leaves out is as in BERT-base, as transformers has it.
DEFAULTS: Mapping[str, int] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
CLASSIFIER = "BertForSequenceClassification"


@dataclass(frozen=True)
class Bert(Family):
    """See `Family`."""

    def completed(self, config: Config, source: str) -> Config:
        """See `Family`."""
        whole = {**DEFAULTS, **config}
        check_sizes(whole, tuple(DEFAULTS), source)
        check_positions(whole, source)
        return whole

    def shape(self, config: Config, outputs: int) -> Shape:
        """See `Family`."""
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        if hidden % heads:
            raise ValueError(
                f"model must have a hidden size divisible by its {heads} heads, got {hidden}"
            )
        frame = Frame(
            vocab_size=config["vocab_size"],
            hidden_size=hidden,
            head_size=hidden // heads,
            max_positions=config["max_position_embeddings"],
            token_types=config["type_vocab_size"],
            outputs=outputs,
        )
        layers, units = config["num_hidden_layers"], config["intermediate_size"]
        return uniform_shape(frame, heads, layers, units, None)

    def tensors(self, config: Config) -> dict[str, tuple[int, ...]]:
        """See `Family`."""
        hidden, units = config["hidden_size"], config["intermediate_size"]
        words = "embeddings.word_embeddings.weight"
        expected: dict[str, tuple[int, ...]] = {words: (config["vocab_size"], hidden)}
        for layer in range(config["num_hidden_layers"]):
            expected[f"encoder.layer.{layer}.intermediate.dense.weight"] = (units, hidden)
        return expected

    def name(self, tensor: str) -> str:
        """See `Family`."""
        return tensor.removeprefix("bert.")

    def is_classifier(self, config: Config) -> bool:
        """See `Family`."""
        return CLASSIFIER in (config.get("architectures") or [])

    def config(self, config: Config, outputs: int, problem_type: str) -> RositaConfig:
        """See `Family`."""
        from transformers import BertConfig

        from rosita_core.model.modeling_rosita import RositaConfig

        source = BertConfig.from_dict(dict(config))
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

    def load(
        self, source: str, outputs: int, problem_type: str, seed: int
    ) -> RositaForSequenceClassification:
        """See `Family`."""
        import torch
        from transformers import BertConfig, BertForSequenceClassification, BertModel

        from rosita_core.model.modeling_rosita import RositaForSequenceClassification

        values = BertConfig.get_config_dict(source)[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.is_classifier(values) and BertConfig.from_dict(values).num_labels == outputs:
                whole = BertForSequenceClassification.from_pretrained(
                    source, use_safetensors=True, dtype=torch.float32
                )
                return self.convert(whole, problem_type)
            model = RositaForSequenceClassification(self.config(values, outputs, problem_type))
            body = BertModel.from_pretrained(source, use_safetensors=True, dtype=torch.float32)
        state = {f"bert.{name}": tensor for name, tensor in body.state_dict().items()}
        own = {n: t for n, t in model.state_dict().items() if n.startswith("classifier.")}
        model.load_state_dict(state | own, strict=True)
        return model.eval()

    def convert(
        self, source: BertForSequenceClassification, problem_type: str
    ) -> RositaForSequenceClassification:
        """The same function as `source`, in the model of this package: every logit is the same.

        The weights are copied; the mode is that of `source`.
        """
        from rosita_core.model.checkpoint import build

        outputs = source.classifier.out_features
        config = self.config(source.config.to_dict(), outputs, problem_type)
        config.id2label, config.label2id = source.config.id2label, source.config.label2id
        state = {name: tensor.detach().clone() for name, tensor in source.state_dict().items()}
        return build(config, state).train(source.training)

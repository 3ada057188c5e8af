"""BERT for sequence classification whose layers may differ in heads and FFN units and whose word
embedding may be factorized. Parameter names are those of BERT, so a BERT checkpoint loads as it is.

This file is copied into exported checkpoints and imports nothing but torch and transformers.

Letters: B batch, T tokens, H hidden size, D head size, A heads, F FFN units, E embedding rank,
L layers, C outputs.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import SequenceClassifierOutput


class RositaConfig(PretrainedConfig):
    """Sizes of a (pruned) BERT classifier.

    Args:
        vocab_size: rows of the word embedding.
        hidden_size: H.
        head_size: D; heads x D need not equal H.
        layer_heads: heads of each layer, bottom first.
        layer_ffn_units: FFN (intermediate) units of each layer, bottom first.
        embedding_rank: E of the factorized word embedding; None for one V x H matrix.
        max_position_embeddings: longest sequence.
        type_vocab_size: token types.
        hidden_act: activation of the FFN, a name known to transformers.
        hidden_dropout_prob, attention_probs_dropout_prob, classifier_dropout: dropout rates;
            classifier_dropout None means hidden_dropout_prob.
        layer_norm_eps: epsilon of every LayerNorm.
        pad_token_id: id of [PAD].
        initializer_range: standard deviation of fresh weights.
        text_pair: whether an input is two texts; None where nobody noted it.
    """

    model_type = "rosita"

    def __init__(
        self,
        vocab_size: int = 30522,
        hidden_size: int = 768,
        head_size: int = 64,
        layer_heads: tuple[int, ...] | list[int] = (12,) * 12,
        layer_ffn_units: tuple[int, ...] | list[int] = (3072,) * 12,
        embedding_rank: int | None = None,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        hidden_act: str = "gelu",
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        classifier_dropout: float | None = None,
        layer_norm_eps: float = 1e-12,
        pad_token_id: int | None = 0,
        initializer_range: float = 0.02,
        text_pair: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if len(layer_heads) != len(layer_ffn_units):
            raise ValueError(
                f"layer_heads and layer_ffn_units must have one entry per layer, "
                f"got {len(layer_heads)} and {len(layer_ffn_units)}"
            )
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.head_size = head_size
        self.layer_heads = list(layer_heads)
        self.layer_ffn_units = list(layer_ffn_units)
        self.embedding_rank = embedding_rank
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.hidden_act = hidden_act
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.classifier_dropout = classifier_dropout
        self.layer_norm_eps = layer_norm_eps
        self.pad_token_id = pad_token_id
        self.initializer_range = initializer_range
        self.text_pair = text_pair
        kwargs.pop("num_hidden_layers", None)
        super().__init__(**kwargs)

    @property
    def num_hidden_layers(self) -> int:
        return len(self.layer_heads)

    @property
    def outputs(self) -> int:
        """C: classes, or 1 for regression."""
        return len(self.id2label or {})


class Embeddings(nn.Module):
    """Word (possibly factorized) + position + token-type embeddings, normalized: (B, T, H)."""

    def __init__(self, config: RositaConfig) -> None:
        super().__init__()
        hidden, rank = config.hidden_size, config.embedding_rank
        self.word_embeddings = nn.Embedding(config.vocab_size, rank or hidden, config.pad_token_id)
        if rank is not None:
            self.projection = nn.Linear(rank, hidden, bias=False)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, hidden)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor | None) -> torch.Tensor:
        words = self.word_embeddings(input_ids)
        if hasattr(self, "projection"):
            words = self.projection(words)
        positions = self.position_embeddings.weight[: input_ids.shape[1]]
        if token_type_ids is None:
            types = self.token_type_embeddings.weight[0]
        else:
            types = self.token_type_embeddings(token_type_ids)
        return self.dropout(self.LayerNorm(words + positions + types))


class SelfAttention(nn.Module):
    """Scaled dot-product attention of A heads of size D."""

    def __init__(self, config: RositaConfig, heads: int) -> None:
        super().__init__()
        width = heads * config.head_size
        self.head_size = config.head_size
        self.dropout = config.attention_probs_dropout_prob
        self.query = nn.Linear(config.hidden_size, width)
        self.key = nn.Linear(config.hidden_size, width)
        self.value = nn.Linear(config.hidden_size, width)

    def forward(self, hidden_BTH: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        batch, tokens, _ = hidden_BTH.shape

        def split(x: torch.Tensor) -> torch.Tensor:
            return x.view(batch, tokens, -1, self.head_size).transpose(1, 2)

        attended_BATD = F.scaled_dot_product_attention(
            split(self.query(hidden_BTH)),
            split(self.key(hidden_BTH)),
            split(self.value(hidden_BTH)),
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return attended_BATD.transpose(1, 2).reshape(batch, tokens, -1)


class ResidualOutput(nn.Module):
    """Back to the residual stream: LayerNorm(x + dropout(dense(y)))."""

    def __init__(self, config: RositaConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, y: torch.Tensor, residual_BTH: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(residual_BTH + self.dropout(self.dense(y)))


class Attention(nn.Module):
    def __init__(self, config: RositaConfig, heads: int) -> None:
        super().__init__()
        self.self = SelfAttention(config, heads)
        self.output = ResidualOutput(config, heads * config.head_size)

    def forward(self, hidden_BTH: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        return self.output(self.self(hidden_BTH, mask), hidden_BTH)


class Intermediate(nn.Module):
    def __init__(self, config: RositaConfig, units: int) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, units)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden_BTH: torch.Tensor) -> torch.Tensor:
        return self.activation(self.dense(hidden_BTH))


class Layer(nn.Module):
    """One transformer layer with its own number of heads and FFN units."""

    def __init__(self, config: RositaConfig, heads: int, units: int) -> None:
        super().__init__()
        self.attention = Attention(config, heads)
        self.intermediate = Intermediate(config, units)
        self.output = ResidualOutput(config, units)

    def forward(self, hidden_BTH: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        attended_BTH = self.attention(hidden_BTH, mask)
        return self.output(self.intermediate(attended_BTH), attended_BTH)


class Encoder(nn.Module):
    def __init__(self, config: RositaConfig) -> None:
        super().__init__()
        sizes = zip(config.layer_heads, config.layer_ffn_units, strict=True)
        self.layer = nn.ModuleList(Layer(config, heads, units) for heads, units in sizes)


class Pooler(nn.Module):
    def __init__(self, config: RositaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_BTH: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.dense(hidden_BTH[:, 0]))


class Bert(nn.Module):
    def __init__(self, config: RositaConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.pooler = Pooler(config)


class RositaForSequenceClassification(PreTrainedModel):
    """A (pruned) BERT with a pooler and a classifier.

    `forward` takes input_ids (B, T), attention_mask (B, T, 1 = token, 0 = padding) and
    token_type_ids (B, T); it returns logits (B, C), with labels a loss (cross-entropy, or mean
    squared error when `problem_type` is "regression"), and with `output_hidden_states` a tuple of
    L + 1 tensors (B, T, H): the embedding output after its LayerNorm and every layer's output.
    """

    config: RositaConfig
    config_class = RositaConfig
    base_model_prefix = "bert"
    _supports_sdpa = True

    def __init__(self, config: RositaConfig) -> None:
        super().__init__(config)
        self.num_labels = config.outputs
        self._no_split_modules = {"Layer"}
        self.bert = Bert(config)
        dropout = config.classifier_dropout
        self.dropout = nn.Dropout(config.hidden_dropout_prob if dropout is None else dropout)
        self.classifier = nn.Linear(config.hidden_size, config.outputs)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.bert.embeddings.word_embeddings

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput | tuple:
        # Whether anything is masked is not asked: an exported graph would keep the answer.
        mask = None if attention_mask is None else attention_mask[:, None, None, :].bool()
        hidden_BTH = self.bert.embeddings(input_ids, token_type_ids)
        states = [hidden_BTH]
        for layer in self.bert.encoder.layer:
            hidden_BTH = layer(hidden_BTH, mask)
            states.append(hidden_BTH)
        logits_BC = self.classifier(self.dropout(self.bert.pooler(hidden_BTH)))
        loss = None
        if labels is not None:
            if self.config.problem_type == "regression":
                loss = F.mse_loss(logits_BC.squeeze(-1).float(), labels.float())
            else:
                loss = F.cross_entropy(logits_BC.float(), labels)
        output = SequenceClassifierOutput(
            loss=loss,
            logits=logits_BC,
            hidden_states=tuple(states) if output_hidden_states else None,
        )
        return output if return_dict is not False else output.to_tuple()

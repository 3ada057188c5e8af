"""BERT for sequence classification whose layers may differ in heads and FFN units and whose word
embedding may be factorized. Parameter names are those of BERT, so a BERT checkpoint loads as it is.
What RoBERTa, DistilBERT and ELECTRA have otherwise is an option of the configuration.

This file is copied into exported checkpoints and imports nothing but torch and transformers.

Letters: B batch, T tokens, Q of them that ask in an attention, H hidden size, D head size, A heads,
F FFN units, E embedding rank, L layers, C outputs.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput

# Of 16 random bits.
CHOICES = 2**16
# B x A x Q x T of a layer, up to which unfused attention trains faster in bfloat16. Measured on
# AVX512 with BF16 and no AMX: 0.2 to 0.6 of the time up to 7 million, 1.4 and more at 25 million.
UNFUSED_SCORES = 2**23


class RositaConfig(PretrainedConfig):
    """Sizes of a (pruned) BERT classifier.

    Other code reads `num_hidden_layers`, `num_attention_heads`, `intermediate_size` and `head_dim`:
    they follow from the lists, the largest layer speaking for all, and stand in config.json too.

    Args:
        vocab_size: rows of the word embedding.
        hidden_size: H.
        head_size: D; heads x D need not equal H.
        layer_heads: heads of each layer, bottom first.
        layer_ffn_units: FFN (intermediate) units of each layer, bottom first.
        embedding_rank: E of the factorized word embedding; None for one V x H matrix.
        embedding_size: width of the embeddings, which a projection brings to H after their
            normalization (ELECTRA); None for H, without a projection.
        max_position_embeddings: longest sequence.
        positions_skip_padding: whether only tokens are numbered, wherever the padding is (RoBERTa).
        type_vocab_size: token types; 0 where the model has none (DistilBERT).
        hidden_act: activation of the FFN, a name known to transformers.
        hidden_dropout_prob, attention_probs_dropout_prob, classifier_dropout: dropout rates;
            classifier_dropout None means hidden_dropout_prob.
        layer_norm_eps: epsilon of every LayerNorm.
        pad_token_id: id of [PAD].
        initializer_range: standard deviation of fresh weights.
        head_act: activation of the dense layer that the classifier reads, the pooler: tanh (BERT,
            RoBERTa), relu (DistilBERT) or gelu (ELECTRA).
        head_dropout: whether there is dropout before that layer too (RoBERTa, ELECTRA).
        text_pair: whether an input is two texts; None where nobody noted it.
    """

    model_type = "rosita"
    derived = ("num_hidden_layers", "num_attention_heads", "intermediate_size", "head_dim")

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
        embedding_size: int | None = None,
        positions_skip_padding: bool = False,
        head_act: str = "tanh",
        head_dropout: bool = False,
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
        self.initializer_range = initializer_range
        self.embedding_size = embedding_size
        self.positions_skip_padding = positions_skip_padding
        self.head_act = head_act
        self.head_dropout = head_dropout
        self.text_pair = text_pair
        others = {key: kwargs[key] for key in kwargs if key not in self.derived}
        # Not set above: transformers 4 would set it to None.
        super().__init__(**others | {"pad_token_id": pad_token_id})

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {name: getattr(self, name) for name in self.derived}

    @property
    def num_hidden_layers(self) -> int:
        return len(self.layer_heads)

    @property
    def num_attention_heads(self) -> int:
        return max(self.layer_heads, default=0)

    @property
    def intermediate_size(self) -> int:
        return max(self.layer_ffn_units, default=0)

    @property
    def head_dim(self) -> int:
        return self.head_size

    @property
    def embedding_width(self) -> int:
        """Width of the embeddings: H where nothing else is said."""
        return self.embedding_size or self.hidden_size

    @property
    def outputs(self) -> int:
        """C: classes, or 1 for regression."""
        return len(self.id2label or {})


def dropped(x: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
    """`x` with elements zeroed at `rate` and the others scaled to the same expectation; in eval
    mode `x`.

    On a CPU drawing a number for each element costs more than much of a layer. There 16 random bits
    decide an element, so that the rate is the nearest multiple of 1/65,536. Other devices have
    torch's own.
    """
    # Not a rate of 0 in train mode: a graph of ONNX would keep the mode.
    zeroed = round(rate * CHOICES)
    if not training or zeroed == 0:
        return x
    if x.device.type != "cpu" or zeroed == CHOICES:
        return F.dropout(x, rate)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.int16)[: x.numel()].ge_(zeroed - CHOICES // 2)
    return x * kept.view(x.shape).to(x.dtype).mul_(CHOICES / (CHOICES - zeroed))


class Dropout(nn.Dropout):
    """`dropped` as a module."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return dropped(x, self.p, self.training)


class WordEmbeddings(nn.Embedding):
    """Word vectors of size H, which a factorized embedding projects from rank E: (B, T, H).

    Where the embeddings have a width of their own, it stands for H.
    """

    def __init__(self, config: RositaConfig) -> None:
        rank, width = config.embedding_rank, config.embedding_width
        super().__init__(config.vocab_size, rank or width, config.pad_token_id)
        if rank is not None:
            self.projection = nn.Linear(rank, width, bias=False)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        words = super().forward(input_ids)
        return self.projection(words) if hasattr(self, "projection") else words


class Embeddings(nn.Module):
    """Word + position + token-type embeddings, normalized, and at another width projected to H:
    (B, T, H)."""

    def __init__(self, config: RositaConfig) -> None:
        super().__init__()
        width, hidden = config.embedding_width, config.hidden_size
        self.word_embeddings: nn.Module = WordEmbeddings(config)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        if config.type_vocab_size:
            self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        if width != hidden:
            self.hidden_projection = nn.Linear(width, hidden)

    def forward(
        self,
        words_BTH: torch.Tensor,
        token_type_ids: torch.Tensor | None,
        position_ids: torch.Tensor | None,
    ) -> torch.Tensor:
        if position_ids is None:
            summed = words_BTH + self.position_embeddings.weight[: words_BTH.shape[1]]
        else:
            summed = words_BTH + self.position_embeddings(position_ids)
        if hasattr(self, "token_type_embeddings"):
            if token_type_ids is None:
                summed = summed + self.token_type_embeddings.weight[0]
            else:
                summed = summed + self.token_type_embeddings(token_type_ids)
        normalized = self.dropout(self.LayerNorm(summed))
        if hasattr(self, "hidden_projection"):
            # Of autocast's type it would make all of the residual stream so.
            return self.hidden_projection(normalized).to(normalized.dtype)
        return normalized


class SelfAttention(nn.Module):
    """Scaled dot-product attention of A heads of size D.

    Returns what was attended (B, Q, A x D), and where it is asked for, or where the configuration
    says `eager`, the probabilities (B, A, Q, T). Q tokens ask: the first, or all.
    """

    def __init__(self, config: RositaConfig, heads: int) -> None:
        super().__init__()
        self.config = config
        width = heads * config.head_size
        self.head_size = config.head_size
        self.dropout = config.attention_probs_dropout_prob
        self.query = nn.Linear(config.hidden_size, width)
        self.key = nn.Linear(config.hidden_size, width)
        self.value = nn.Linear(config.hidden_size, width)

    def forward(
        self,
        asking_BQH: torch.Tensor,
        hidden_BTH: torch.Tensor,
        mask: torch.Tensor | None,
        probabilities: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        def split(x: torch.Tensor) -> torch.Tensor:
            return x.view(*x.shape[:2], -1, self.head_size).transpose(1, 2)

        query = split(self.query(asking_BQH))
        key = split(self.key(hidden_BTH))
        value = split(self.value(hidden_BTH))
        share_BAQT = None
        eager = probabilities or self.config._attn_implementation == "eager"
        if eager or self._faster_unfused(query, key.shape[2]):
            score_BAQT = query @ key.transpose(2, 3) * self.head_size**-0.5
            if mask is not None:
                score_BAQT = score_BAQT.masked_fill(~mask, torch.finfo(score_BAQT.dtype).min)
            share_BAQT = dropped(score_BAQT.softmax(-1), self.dropout, self.training)
            attended_BAQD = share_BAQT @ value
        else:
            attended_BAQD = F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=mask,
                dropout_p=self.dropout if self.training else 0.0,
            )
        return attended_BAQD.transpose(1, 2).flatten(2), share_BAQT

    def _faster_unfused(self, query_BAQD: torch.Tensor, tokens: int) -> bool:
        """Whether a step of training is faster where the probabilities are computed, on a CPU.

        With dropout torch computes them too. Without, the backward pass of its fused function is
        the slower one in bfloat16, until the scores leave the caches.
        """
        if query_BAQD.device.type != "cpu" or not query_BAQD.requires_grad:
            return False
        if self.training and self.dropout:
            return True
        scores = query_BAQD[..., 0].numel() * tokens
        return query_BAQD.dtype is torch.bfloat16 and scores <= UNFUSED_SCORES


class ResidualOutput(nn.Module):
    """Back to the residual stream: LayerNorm(x + dropout(dense(y)))."""

    def __init__(self, config: RositaConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, y: torch.Tensor, residual_BTH: torch.Tensor) -> torch.Tensor:
        # Under autocast they have two types; a CPU adds those much more slowly than it casts.
        dense_BTH = self.dropout(self.dense(y)).to(residual_BTH.dtype)
        return self.LayerNorm(residual_BTH + dense_BTH)


class Attention(nn.Module):
    """Q tokens of a layer read all: (B, Q, H)."""

    def __init__(self, config: RositaConfig, heads: int) -> None:
        super().__init__()
        self.self = SelfAttention(config, heads)
        self.output = ResidualOutput(config, heads * config.head_size)

    def forward(
        self,
        asking_BQH: torch.Tensor,
        hidden_BTH: torch.Tensor,
        mask: torch.Tensor | None,
        probabilities: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        attended, share_BAQT = self.self(asking_BQH, hidden_BTH, mask, probabilities)
        return self.output(attended, asking_BQH), share_BAQT


class Intermediate(nn.Module):
    def __init__(self, config: RositaConfig, units: int) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, units)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden_BTH: torch.Tensor) -> torch.Tensor:
        return self.activation(self.dense(hidden_BTH))


class Layer(nn.Module):
    """One transformer layer with its own number of heads and FFN units: (B, T, H), or where nobody
    reads more, of the first token (B, 1, H)."""

    def __init__(self, config: RositaConfig, heads: int, units: int) -> None:
        super().__init__()
        self.attention = Attention(config, heads)
        self.intermediate = Intermediate(config, units)
        self.output = ResidualOutput(config, units)

    def forward(
        self,
        hidden_BTH: torch.Tensor,
        mask: torch.Tensor | None,
        probabilities: bool,
        first_only: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        # In memory of its own: a slice is multiplied by another function, which rounds otherwise.
        asking_BQH = hidden_BTH[:, :1].contiguous() if first_only else hidden_BTH
        attended_BQH, share_BAQT = self.attention(asking_BQH, hidden_BTH, mask, probabilities)
        return self.output(self.intermediate(attended_BQH), attended_BQH), share_BAQT


class Encoder(nn.Module):
    """Returns L + 1 hidden states, the embeddings first, and L attention probabilities or None.

    Where only the first token is read, the last layer computes no other: of a layer of BERT, keys
    and values are a sixth.
    """

    # transformers switches it, and then sets `_gradient_checkpointing_func`.
    gradient_checkpointing = False
    _gradient_checkpointing_func: Any

    def __init__(self, config: RositaConfig) -> None:
        super().__init__()
        sizes = zip(config.layer_heads, config.layer_ffn_units, strict=True)
        self.layer = nn.ModuleList(Layer(config, heads, units) for heads, units in sizes)

    def forward(
        self,
        hidden_BTH: torch.Tensor,
        mask: torch.Tensor | None,
        probabilities: bool,
        first_only: bool,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
        states, shares = [hidden_BTH], []
        for number, layer in enumerate(self.layer, 1):
            first = first_only and number == len(self.layer)
            if self.gradient_checkpointing and self.training:
                hidden_BTH, share_BATT = self._gradient_checkpointing_func(
                    layer.__call__, hidden_BTH, mask, probabilities, first
                )
            else:
                hidden_BTH, share_BATT = layer(hidden_BTH, mask, probabilities, first)
            states.append(hidden_BTH)
            shares.append(share_BATT)
        return states, shares


class Pooler(nn.Module):
    """The first token's state on its way to the classifier: (B, H)."""

    def __init__(self, config: RositaConfig) -> None:
        super().__init__()
        rate = config.classifier_dropout
        rate = config.hidden_dropout_prob if rate is None else rate
        self.dropout = Dropout(rate) if config.head_dropout else nn.Identity()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.head_act]

    def forward(self, hidden_BTH: torch.Tensor) -> torch.Tensor:
        return self.activation(self.dense(self.dropout(hidden_BTH[:, 0])))


class RositaPreTrainedModel(PreTrainedModel):
    """What the encoder and the classifier have in common."""

    config: RositaConfig
    config_class = RositaConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Layer"]  # noqa: RUF012  (transformers wants a list)
    _supports_sdpa = True


class RositaModel(RositaPreTrainedModel):
    """The encoder of a (pruned) BERT, with its pooler.

    `forward` takes input_ids (B, T) or inputs_embeds (B, T, H), attention_mask (B, T, 1 = token,
    0 = padding), token_type_ids and position_ids (B, T). It returns last_hidden_state (B, T, H) and
    pooler_output (B, H); where they are asked for, by argument or by the configuration,
    hidden_states, a tuple of L + 1 tensors (B, T, H): the embedding output after its LayerNorm and
    every layer's output; and attentions, a tuple of L tensors (B, A, T, T). Whoever reads nothing
    but pooler_output says so by first_only, and spares the last layer the other tokens:
    last_hidden_state is (B, 1, H) then, if neither hidden states nor attentions are asked for.
    """

    def __init__(self, config: RositaConfig, initialize: bool = True) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.pooler = Pooler(config)
        # A model around this one draws all weights at once.
        if initialize:
            self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.word_embeddings = value

    def embedded(
        self,
        input_ids: torch.Tensor | None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What enters the first layer: (B, T, H)."""
        config = self.config
        words_BTH = inputs_embeds
        if words_BTH is None:
            words_BTH = self.embeddings.word_embeddings(input_ids)
        if config.positions_skip_padding and position_ids is None and input_ids is not None:
            position_ids = (input_ids.ne(config.pad_token_id or 0).cumsum(1) - 1).clamp(min=0)
        return self.embeddings(words_BTH, token_type_ids, position_ids)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        first_only: bool = False,
    ) -> BaseModelOutputWithPooling | tuple:
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("exactly one of input_ids and inputs_embeds must be given")
        config = self.config
        attentions = _given(output_attentions, config.output_attentions)
        all_states = _given(output_hidden_states, config.output_hidden_states)
        # Whether anything is masked is not asked: an exported graph would keep the answer.
        mask = None if attention_mask is None else attention_mask[:, None, None, :].bool()
        hidden_BTH = self.embedded(input_ids, token_type_ids, position_ids, inputs_embeds)
        first_only = first_only and not (all_states or attentions)
        states, shares = self.encoder(hidden_BTH, mask, attentions, first_only)
        output = BaseModelOutputWithPooling(
            last_hidden_state=states[-1],
            pooler_output=self.pooler(states[-1]),
            hidden_states=tuple(states) if all_states else None,
            attentions=tuple(shares) if attentions else None,
        )
        return output if _given(return_dict, config.return_dict) else output.to_tuple()


class RositaForSequenceClassification(RositaPreTrainedModel):
    """A (pruned) BERT with a pooler and a classifier.

    `forward` takes what `RositaModel` takes but for first_only, and labels; it returns logits
    (B, C), with labels a loss by the configuration's `problem_type`: mean squared error for
    "regression", binary cross-entropy for "multi_label_classification" (labels B, C), else
    cross-entropy. Where no hidden states or attentions are asked for, a hook on the last layer sees
    the first token alone, (B, 1, H).
    """

    def __init__(self, config: RositaConfig) -> None:
        super().__init__(config)
        self.num_labels = config.outputs
        self.bert = RositaModel(config, initialize=False)
        dropout = config.classifier_dropout
        self.dropout = Dropout(config.hidden_dropout_prob if dropout is None else dropout)
        self.classifier = nn.Linear(config.hidden_size, config.outputs)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple:
        encoded = self.bert(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_attentions,
            output_hidden_states,
            return_dict=True,
            first_only=True,
        )
        logits_BC = self.answers(self.dropout(encoded.pooler_output))
        output = SequenceClassifierOutput(
            loss=None if labels is None else self._loss(logits_BC.float(), labels),
            logits=logits_BC,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return output if _given(return_dict, self.config.return_dict) else output.to_tuple()

    def answers(self, pooled_BH: torch.Tensor) -> torch.Tensor:
        """The classifier's logits (B, C); a number of a regression has more digits than autocast's
        type, and is computed in that of the weights."""
        device = pooled_BH.device.type
        exact = self.num_labels == 1 and device in ("cpu", "cuda")
        if not exact or not torch.is_autocast_enabled(device):
            return self.classifier(pooled_BH)
        with torch.autocast(device, enabled=False):
            return self.classifier(pooled_BH.to(self.classifier.weight.dtype))

    def _loss(self, logits_BC: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        problem = self.config.problem_type
        if problem == "regression" or (problem is None and self.num_labels == 1):
            return F.mse_loss(logits_BC, labels.float().view_as(logits_BC))
        if problem == "multi_label_classification" or (
            problem is None and labels.is_floating_point()
        ):
            return F.binary_cross_entropy_with_logits(logits_BC, labels.float())
        return F.cross_entropy(logits_BC, labels.view(-1))


def _given(value: bool | None, otherwise: bool | None) -> bool:
    return bool(otherwise if value is None else value)

"""The size of a pruned BERT and what follows from it exactly: parameters and multiply-adds.

Letters: V vocabulary, H hidden size, W width of the embeddings, D head size, A heads of a layer,
F FFN (intermediate) units of a layer, E embedding rank, L layers, C outputs, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

LAYER_NORM_VECTORS = 2  # weight and bias


@dataclass(frozen=True)
class Frame:
    """What pruning never changes.

    Attributes:
        vocab_size: V, rows of the word embedding.
        hidden_size: H, width of the residual stream.
        head_size: D, width of one attention head.
        max_positions: rows of the position embedding.
        token_types: rows of the token-type embedding; 0 where there is none.
        outputs: C, classes, or 1 for regression.
        embedding_size: W where it is not H, and a projection with bias leads from W to H.
    """

    vocab_size: int
    hidden_size: int
    head_size: int
    max_positions: int
    token_types: int
    outputs: int
    embedding_size: int | None = None

    @property
    def embedding_width(self) -> int:
        """W as a number."""
        return self.embedding_size or self.hidden_size


@dataclass(frozen=True)
class Shape:
    """The size of a (pruned) model: a Frame and what pruning changes.

    Attributes:
        frame: the sizes that stay.
        layer_heads: A of each layer kept, bottom first.
        layer_ffn_units: F of each layer kept, bottom first.
        embedding_rank: E of the factorized word embedding, or None where it is one V x W matrix.
    """

    frame: Frame
    layer_heads: tuple[int, ...]
    layer_ffn_units: tuple[int, ...]
    embedding_rank: int | None

    def __post_init__(self) -> None:
        if len(self.layer_heads) != len(self.layer_ffn_units):
            raise ValueError(
                f"layer_heads and layer_ffn_units must have one entry per layer, "
                f"got {len(self.layer_heads)} and {len(self.layer_ffn_units)}"
            )
        if not self.layer_heads:
            raise ValueError("layers must be at least 1, got 0")
        for name, sizes in (
            ("layer_heads", self.layer_heads),
            ("layer_ffn_units", self.layer_ffn_units),
        ):
            if min(sizes) < 1:
                raise ValueError(f"{name} must be at least 1 in every layer, got {min(sizes)}")
        width = self.frame.embedding_width
        if self.embedding_rank is not None and not 1 <= self.embedding_rank <= width:
            raise ValueError(
                f"embedding_rank must be in [1, {width}] for a {self.frame.vocab_size} x {width} "
                f"embedding, got {self.embedding_rank}"
            )

    @property
    def layers(self) -> int:
        return len(self.layer_heads)

    @property
    def rank(self) -> int:
        """E as a number: the width of the embedding where it is not factorized."""
        return self.frame.embedding_width if self.embedding_rank is None else self.embedding_rank

    def __str__(self) -> str:
        """a2_l8_f512_e128; sizes that differ between layers are joined by hyphens."""
        heads = _joined(self.layer_heads)
        units = _joined(self.layer_ffn_units)
        return f"a{heads}_l{self.layers}_f{units}_e{self.rank}"


def _joined(sizes: tuple[int, ...]) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else "-".join(map(str, sizes))


def uniform_shape(
    frame: Frame, heads: int, layers: int, ffn_units: int, embedding_rank: int | None
) -> Shape:
    """The shape whose layers all have the same size."""
    return Shape(frame, (heads,) * layers, (ffn_units,) * layers, embedding_rank)


def narrowed(shape: Shape, heads: int, ffn_units: int, embedding_rank: int) -> Shape:
    """`shape` with every layer at `heads` and `ffn_units` and the embedding at `embedding_rank`.

    A full embedding whose rank shall be the hidden size stays one matrix.

    Raises:
        ValueError: where the target is larger than the source in any of the three.
    """
    for field, source, target in (
        ("keep_heads", min(shape.layer_heads), heads),
        ("ffn_units", min(shape.layer_ffn_units), ffn_units),
        ("embedding_rank", shape.rank, embedding_rank),
    ):
        if not 1 <= target <= source:
            raise ValueError(f"{field} must be in [1, {source}] for {shape}, got {target}")
    return replace(
        shape,
        layer_heads=(heads,) * shape.layers,
        layer_ffn_units=(ffn_units,) * shape.layers,
        embedding_rank=rank_or_full(shape, embedding_rank),
    )


def rank_or_full(shape: Shape, rank: int) -> int | None:
    """`rank`, or None where `shape` has a full embedding and `rank` takes nothing from it."""
    return None if shape.embedding_rank is None and rank == shape.rank else rank


def shallower(shape: Shape, keep_layers: int) -> Shape:
    """`shape` with its bottom `keep_layers` layers.

    Raises:
        ValueError: where the source has fewer layers.
    """
    if not 1 <= keep_layers <= shape.layers:
        raise ValueError(
            f"keep_layers must be in [1, {shape.layers}] for {shape}, got {keep_layers}"
        )
    return replace(
        shape,
        layer_heads=shape.layer_heads[:keep_layers],
        layer_ffn_units=shape.layer_ffn_units[:keep_layers],
    )


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of a model: embedding + encoder + head = total.

    Attributes:
        embedding: word (both factors), position and token-type embeddings and their LayerNorm.
        encoder: all layers.
        head: pooler and classifier.
    """

    embedding: int
    encoder: int
    head: int

    @property
    def total(self) -> int:
        return self.embedding + self.encoder + self.head


def count_parameters(shape: Shape) -> ParameterCount:
    """Exact parameters of the model of `shape`, with pooler and classifier."""
    frame, hidden, width = shape.frame, shape.frame.hidden_size, shape.frame.embedding_width
    embedding = frame.vocab_size * shape.rank
    if shape.embedding_rank is not None:
        embedding += shape.embedding_rank * width
    embedding += (frame.max_positions + frame.token_types + LAYER_NORM_VECTORS) * width
    if width != hidden:
        embedding += width * hidden + hidden
    encoder = 0
    for heads, units in zip(shape.layer_heads, shape.layer_ffn_units, strict=True):
        inner = heads * frame.head_size
        attention = 3 * (hidden * inner + inner) + inner * hidden + hidden
        ffn = hidden * units + units + units * hidden + hidden
        encoder += attention + ffn + 2 * LAYER_NORM_VECTORS * hidden
    pooler = hidden * hidden + hidden
    classifier = hidden * frame.outputs + frame.outputs
    return ParameterCount(embedding, encoder, pooler + classifier)


def count_macs(shape: Shape, tokens: int) -> int:
    """Multiply-adds of all hidden states and the logits of one sequence of `tokens` tokens.

    Counts every matrix product (embedding projections, attention projections, scores and weighted
    sum, FFN, pooler, classifier); look-ups, normalization and activations count nothing. So papers
    count; where logits alone are asked for, the last layer computes its first token alone.
    """
    hidden, width = shape.frame.hidden_size, shape.frame.embedding_width
    projection = 0 if shape.embedding_rank is None else tokens * shape.embedding_rank * width
    if width != hidden:
        projection += tokens * width * hidden
    head = hidden * hidden + hidden * shape.frame.outputs
    return projection + encoder_macs(shape, tokens) + head


def encoder_macs(shape: Shape, tokens: int) -> int:
    """Multiply-adds of the layers alone, for one sequence of `tokens` tokens."""
    hidden, total = shape.frame.hidden_size, 0
    for heads, units in zip(shape.layer_heads, shape.layer_ffn_units, strict=True):
        width = heads * shape.frame.head_size
        total += tokens * (4 * hidden * width + 2 * hidden * units) + 2 * tokens * tokens * width
    return total

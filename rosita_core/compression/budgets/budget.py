"""What heads and units cost, and what they may cost together.

Letters: H hidden size, D head size, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rosita_core.model.shape import Shape, count_parameters, encoder_macs, rank_or_full

PARAMS, ENCODER, MACS = "params", "encoder", "macs"
COUNTS = (PARAMS, ENCODER, MACS)


@dataclass(frozen=True)
class Limit:
    """How large a model may be: of `share` and `at_most` one is given.

    Attributes:
        count: "params" of the whole model, of the "encoder", or "macs" of the encoder.
        share: of the teacher's.
        at_most: a number of them.
        tokens: of a sequence, for "macs"; None for the mean of the calibration rows.
    """

    count: str
    share: float | None
    at_most: int | None
    tokens: int | None


@dataclass(frozen=True)
class Purse:
    """What an allocation may spend; costs add up.

    Attributes:
        head, unit: what one of them costs.
        limit: what heads and units may cost together.
        floor_heads, floor_units: per layer, how many stay in any case.
    """

    head: int
    unit: int
    limit: int
    floor_heads: tuple[int, ...]
    floor_units: tuple[int, ...]

    def cost(self, heads: int, units: int) -> int:
        return heads * self.head + units * self.unit

    @property
    def least(self) -> int:
        """The cost of the floors."""
        return self.cost(sum(self.floor_heads), sum(self.floor_units))


def size_of(shape: Shape, count: str, tokens: int) -> int:
    """What a model of `shape` has of `count`.

    Example: of MiniLM-L6, 10,646,784 parameters in the encoder.
    """
    if count == MACS:
        return encoder_macs(shape, tokens)
    parameters = count_parameters(shape)
    return parameters.total if count == PARAMS else parameters.encoder


def allowed(shape: Shape, limit: Limit, tokens: int) -> int:
    """The number that a model cut from one of `shape` may have of what is counted."""
    if limit.at_most is not None:
        return limit.at_most
    assert limit.share is not None
    return int(limit.share * size_of(shape, limit.count, tokens))


def purse_of(
    shape: Shape,
    limit: Limit,
    tokens: int,
    embedding_rank: int | None,
    floor: tuple[int, int],
    cut_heads: bool,
) -> Purse:
    """What the heads and units of a model may cost.

    Args:
        shape: of the model before the cut.
        limit: of the whole.
        tokens: of a sequence, for multiply-adds.
        embedding_rank: after the cut; None keeps the embedding.
        floor: heads and units that each layer keeps at least, as far as it has them.
        cut_heads: without, all heads stay.

    Raises:
        ValueError: where the limit is below the floors, with the least that is possible.
    """
    head, unit = _costs(shape, limit.count, tokens)
    heads, units = sum(shape.layer_heads), sum(shape.layer_ffn_units)
    cut = (
        shape
        if embedding_rank is None
        else replace(shape, embedding_rank=rank_or_full(shape, embedding_rank))
    )
    fixed = size_of(cut, limit.count, tokens) - heads * head - units * unit
    floor_heads = tuple(min(floor[0], count) for count in shape.layer_heads)
    purse = Purse(
        head,
        unit,
        allowed(shape, limit, tokens) - fixed,
        floor_heads if cut_heads else shape.layer_heads,
        tuple(min(floor[1], count) for count in shape.layer_ffn_units),
    )
    if purse.limit < purse.least:
        whole, least = size_of(shape, limit.count, tokens), purse.least + fixed
        field, got = ("at_most", limit.at_most) if limit.share is None else ("share", limit.share)
        # Rounded up, so that the number in the message is one that works.
        bound = f"{least:,}" if limit.share is None else f"{-(-least * 10_000 // whole) / 10_000:g}"
        raise ValueError(
            f"compress.budget.{field} must be at least {bound} of count {limit.count}, which the "
            f"least heads and units of {shape} need, got {got}"
        )
    return purse


def _costs(shape: Shape, count: str, tokens: int) -> tuple[int, int]:
    """Of one head and of one unit: 4HD + 3D and 2H + 1 parameters, 4HDT + 2T^2D and 2HT MACs."""
    hidden, size = shape.frame.hidden_size, shape.frame.head_size
    if count == MACS:
        return 4 * hidden * size * tokens + 2 * tokens * tokens * size, 2 * hidden * tokens
    return 4 * hidden * size + 3 * size, 2 * hidden + 1

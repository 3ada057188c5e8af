"""When to prune and how far: iterative width and depth schedules (ROSITA, iterative pruning).

P prunes fall at equal distances over the first `fraction` of training. The k-th reaches the k-th
point of a straight line from the source shape to the target shape, rounded; the last is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rosita_core.model.shape import Shape, narrowed, rank_or_full, shallower


@dataclass(frozen=True)
class PruneEvent:
    """After optimizer step `step` (1-based) the model is cut to `shape`."""

    step: int
    shape: Shape


def width_targets(
    source: Shape, heads: int, ffn_units: int, embedding_rank: int, steps: int
) -> tuple[Shape, ...]:
    """`steps` shapes on the straight line from `source` to the target; the last is the target.

    Raises:
        ValueError: where the target is larger than the source or `steps` is below 1.
    """
    target = narrowed(source, heads, ffn_units, embedding_rank)
    if steps < 1:
        raise ValueError(f"prune_steps must be at least 1, got {steps}")
    return tuple(
        replace(
            source,
            layer_heads=_between(source.layer_heads, target.layer_heads, k, steps),
            layer_ffn_units=_between(source.layer_ffn_units, target.layer_ffn_units, k, steps),
            embedding_rank=rank_or_full(source, _point(source.rank, embedding_rank, k, steps)),
        )
        for k in range(1, steps + 1)
    )


def depth_targets(source: Shape, keep_layers: int) -> tuple[Shape, ...]:
    """One shape per layer removed, the top layer first; empty where nothing is to be removed."""
    shallower(source, keep_layers)
    return tuple(shallower(source, n) for n in range(source.layers - 1, keep_layers - 1, -1))


def default_width_steps(source: Shape, heads: int) -> int:
    """P of the paper: one step per head removed; at least one."""
    return max(1, max(source.layer_heads) - heads)


def at_equal_distances(
    targets: tuple[Shape, ...], total_steps: int, fraction: float
) -> tuple[PruneEvent, ...]:
    """The targets at equal distances over the first `fraction` of `total_steps` optimizer steps.

    Example: three targets over half of 60 steps fall on the steps 10, 20 and 30.

    Target k of P falls at round(k * fraction * total_steps / P). Where the fraction has fewer than
    P steps, the targets fall on steps 1 to P, one after another.

    Raises:
        ValueError: where `fraction` is outside (0, 1] or there are more targets than steps.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"prune_fraction must be in (0, 1], got {fraction}")
    if len(targets) > total_steps:
        raise ValueError(f"prune_steps must be at most {total_steps} steps, got {len(targets)}")
    events: list[PruneEvent] = []
    for k, shape in enumerate(targets, start=1):
        planned = round(k * fraction * total_steps / len(targets))
        earliest = events[-1].step + 1 if events else 1
        events.append(PruneEvent(max(planned, earliest), shape))
    return tuple(events)


def _between(
    source: tuple[int, ...], target: tuple[int, ...], k: int, steps: int
) -> tuple[int, ...]:
    return tuple(_point(s, t, k, steps) for s, t in zip(source, target, strict=True))


def _point(source: int, target: int, k: int, steps: int) -> int:
    return round(source + (target - source) * k / steps)

"""Allocations within a budget: never above it, nothing left that would fit, and the best of it."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rosita_core.compression.allocation.tolerance import Tolerance
from rosita_core.compression.allocation.uniform import Uniform
from rosita_core.compression.budgets.budget import COUNTS, Limit, allowed, purse_of, size_of
from rosita_core.compression.budgets.solver import NEAR, Given, solved
from rosita_core.compression.importance import Importance
from rosita_core.compression.within_budget import kept_within
from rosita_core.model.shape import Frame, Shape, count_parameters, narrowed, shallower
from rosita_core.plug_ins import load

FRAME = Frame(64, 16, 4, 32, 2, 2)
MINILM = Shape(Frame(30522, 384, 32, 512, 2, 2), (12,) * 6, (1536,) * 6, None)
BERT = Shape(Frame(30522, 768, 64, 512, 2, 2), (12,) * 12, (3072,) * 12, None)
Global = load("compression.allocation", "global")
ALLOCATIONS = (Uniform(False), Global(), Tolerance())
TOKENS = 25


@st.composite
def asked(draw):
    layers = draw(st.integers(1, 3))
    heads = tuple(draw(st.lists(st.integers(1, 4), min_size=layers, max_size=layers)))
    units = tuple(draw(st.lists(st.integers(1, 12), min_size=layers, max_size=layers)))
    shape = Shape(FRAME, heads, units, draw(st.sampled_from((None, 8))))
    numbers = st.floats(-1, 10, width=16)
    ranking = Importance(
        tuple(torch.tensor([draw(numbers) for _ in range(n)]) for n in heads),
        tuple(torch.tensor([draw(numbers) for _ in range(n)]) for n in units),
    )
    limit = Limit(draw(st.sampled_from(COUNTS)), draw(st.floats(0.2, 1)), None, None)
    floor = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    return shape, ranking, limit, floor, draw(st.booleans())


def size_after(shape, kept, count):
    heads, units = tuple(map(len, kept.heads)), tuple(map(len, kept.ffn_units))
    return size_of(Shape(shape.frame, heads, units, shape.embedding_rank), count, TOKENS)


def within(shape, limit, floor, cut_heads):
    try:
        return purse_of(shape, limit, TOKENS, None, floor, cut_heads)
    except ValueError as error:
        assert "compress.budget.share must be at least" in str(error)
        return None


@pytest.mark.parametrize("allocation", ALLOCATIONS, ids=lambda one: type(one).__name__)
@settings(max_examples=60, deadline=None)
@given(asked=asked())
def test_the_budget_holds_and_the_next_unit_would_not_fit(allocation, asked):
    shape, ranking, limit, floor, cut_heads = asked
    if (purse := within(shape, limit, floor, cut_heads)) is None:
        return
    kept = kept_within(allocation, shape, ranking, purse)
    most = allowed(shape, limit, TOKENS)
    assert size_after(shape, kept, limit.count) <= most
    for layer, units in enumerate(kept.ffn_units):
        assert len(kept.heads[layer]) >= min(floor[0], shape.layer_heads[layer])
        assert len(units) >= min(floor[1], shape.layer_ffn_units[layer])
        if not cut_heads:
            assert len(kept.heads[layer]) == shape.layer_heads[layer]
        if len(units) < shape.layer_ffn_units[layer]:
            assert size_after(shape, kept, limit.count) + purse.unit > most


@pytest.mark.parametrize("allocation", ALLOCATIONS, ids=lambda one: type(one).__name__)
@settings(max_examples=20, deadline=None)
@given(asked=asked())
def test_a_whole_budget_keeps_everything(allocation, asked):
    shape, ranking, limit, floor, cut_heads = asked
    purse = purse_of(shape, replace(limit, share=1.0), TOKENS, None, floor, cut_heads)
    kept = kept_within(allocation, shape, ranking, purse)
    assert tuple(map(len, kept.heads)) == shape.layer_heads
    assert tuple(map(len, kept.ffn_units)) == shape.layer_ffn_units


@settings(max_examples=60, deadline=None)
@given(asked=asked())
def test_the_global_allocation_is_optimal(asked):
    """Against every number of heads and units of each layer that uses up the budget."""
    shape, ranking, limit, floor, cut_heads = asked
    if (purse := within(shape, limit, floor, cut_heads)) is None:
        return
    kept = Global().spend(shape, ranking, purse)
    value = sum(
        float(scores[indices].double().sum())
        for scores, indices in zip(
            (*ranking.heads, *ranking.ffn_units), (*kept.heads, *kept.ffn_units), strict=True
        )
    )
    best = -torch.inf
    for mine in possible(ranking.heads, purse.floor_heads):
        for theirs in possible(ranking.ffn_units, purse.floor_units):
            room = (purse.limit - mine[1] * purse.head) // purse.unit
            units = min(room, sum(shape.layer_ffn_units))
            another = purse.cost(mine[1] + 1, units) <= purse.limit
            if theirs[1] == units and not (another and mine[1] < sum(shape.layer_heads)):
                best = max(best, mine[0] + theirs[0])
    assert value == pytest.approx(best, abs=1e-9)


def possible(scores, floors):
    """Number -> the largest sum of so many with the floors, as pairs (sum, number)."""
    found = {0: 0.0}
    for score, floor in zip(scores, floors, strict=True):
        tops = [0.0, *score.double().sort(descending=True).values.cumsum(0).tolist()]
        found = {
            n + k: max(
                found[m] + tops[j]
                for m, j in product(found, range(floor, len(tops)))
                if m + j == n + k
            )
            for n in found
            for k in range(floor, len(tops))
        }
    return [(total, number) for number, total in found.items()]


def test_one_tolerance_keeps_of_each_layer_what_is_above_it():
    shape = Shape(FRAME, (1, 1), (4, 4), None)
    ranking = Importance(
        (torch.ones(1), torch.ones(1)),
        (torch.tensor([8.0, 4.0, 2.0, 1.0]), torch.tensor([80.0, 70.0, 60.0, 1.0])),
    )
    head, unit = purse_of(shape, Limit("encoder", 1.0, None, None), 1, None, (1, 1), True), None
    unit = replace(head, limit=2 * head.head + 5 * head.unit)
    kept = Tolerance().spend(shape, ranking, unit)
    assert [units.tolist() for units in kept.ffn_units] == [[0, 1], [0, 1, 2]]


def test_of_equal_scores_the_lower_index_stays():
    shape = Shape(FRAME, (3, 3), (4, 4), None)
    ranking = Importance((torch.ones(3),) * 2, (torch.ones(4),) * 2)
    purse = purse_of(shape, Limit("encoder", 0.7, None, None), 1, None, (1, 1), True)
    for allocation in ALLOCATIONS:
        for indices in (
            *(kept := kept_within(allocation, shape, ranking, purse)).heads,
            *kept.ffn_units,
        ):
            assert indices.tolist() == list(range(len(indices)))


def test_costs_are_those_of_the_specification():
    limit = Limit("macs", 1.0, None, 25)
    purse = purse_of(MINILM, limit, 25, None, (1, 1), True)
    assert (purse.head, purse.unit) == (1_268_800, 19_200)
    purse = purse_of(MINILM, replace(limit, count="params"), 25, None, (1, 1), True)
    assert (purse.head, purse.unit) == (49_248, 769)


def test_a_smaller_embedding_leaves_more_for_the_encoder():
    limit = Limit("params", 0.5, None, None)
    with pytest.raises(ValueError, match=r"share must be at least 0\.5\d+ of count params"):
        purse_of(MINILM, limit, 1, None, (1, 8), True)
    assert purse_of(MINILM, limit, 1, 48, (1, 8), True).limit > 0
    limit = replace(limit, share=0.6)
    purse = purse_of(MINILM, limit, 1, 48, (1, 8), True)
    assert purse.limit == purse_of(MINILM, limit, 1, 384, (1, 8), True).limit + (
        count_parameters(MINILM).embedding
        - count_parameters(replace(MINILM, embedding_rank=48)).embedding
    )


def test_what_is_impossible_is_refused_with_the_least_that_is_not():
    limit = Limit("macs", 0.3, None, None)
    with pytest.raises(ValueError, match=r"share must be at least (0\.34\d+) of count macs") as no:
        purse_of(MINILM, limit, TOKENS, None, (1, 8), False)
    least = float(str(no.value).split("at least ")[1].split()[0])
    purse_of(MINILM, replace(limit, share=least), TOKENS, None, (1, 8), False)
    with pytest.raises(ValueError, match="share must be at least"):
        purse_of(MINILM, replace(limit, share=least - 2e-4), TOKENS, None, (1, 8), False)
    few = Limit("encoder", None, 1000, None)
    with pytest.raises(ValueError, match=r"at_most must be at least [\d,]+ of count encoder"):
        purse_of(MINILM, few, TOKENS, None, (1, 8), True)


@st.composite
def solvable(draw):
    teacher = Shape(
        FRAME,
        (draw(st.integers(1, 4)),) * (layers := draw(st.integers(1, 4))),
        (draw(st.integers(1, 14)),) * layers,
        draw(st.sampled_from((None, 8))),
    )
    sizes = (teacher.layers, teacher.layer_heads[0], teacher.layer_ffn_units[0], teacher.rank)
    given_sizes = [
        draw(st.one_of(st.none(), st.integers(1, most))) if draw(st.booleans()) else None
        for most in sizes
    ]
    count = draw(st.sampled_from(COUNTS))
    tokens = 9 if count == "macs" else None
    return teacher, Given(*given_sizes), Limit(count, draw(st.floats(0.05, 1)), None, tokens)


def every_shape(teacher, sizes):
    ranges = [
        range(1, most + 1) if size is None else (size,)
        for size, most in zip(
            (sizes.layers, sizes.heads, sizes.units, sizes.rank),
            (teacher.layers, teacher.layer_heads[0], teacher.layer_ffn_units[0], teacher.rank),
            strict=True,
        )
    ]
    for layers, heads, units, rank in product(*ranges):
        yield narrowed(shallower(teacher, layers), heads, units, rank)


@settings(max_examples=60, deadline=None)
@given(asked=solvable())
def test_the_solver_is_never_above_and_within_a_hundredth_where_that_goes(asked):
    teacher, sizes, limit = asked
    most = allowed(teacher, limit, 9)
    counted = [size_of(shape, limit.count, 9) for shape in every_shape(teacher, sizes)]
    fitting = [size for size in counted if size <= most]
    if not fitting:
        with pytest.raises(ValueError, match=r"compress\.budget\.share must be at least"):
            solved(teacher, sizes, limit)
        return
    found = solved(teacher, sizes, limit)
    size = size_of(found, limit.count, 9)
    assert size <= most
    assert size >= NEAR * most or size == max(fitting)
    for name, wanted, got in (
        ("layers", sizes.layers, found.layers),
        ("heads", sizes.heads, found.layer_heads[0]),
        ("units", sizes.units, found.layer_ffn_units[0]),
        ("rank", sizes.rank, found.rank),
    ):
        assert wanted in (None, got), name


@pytest.mark.parametrize(
    ("teacher", "paper"),
    [(MINILM, (2, 5, 180, 48)), (BERT, (2, 8, 512, 128))],
    ids=["minilm", "bert-base"],
)
def test_the_solver_prefers_deep_and_narrow(teacher, paper):
    heads, layers, units, rank = paper
    size = count_parameters(narrowed(shallower(teacher, layers), heads, units, rank)).total
    found = solved(teacher, Given(None, None, None, None), Limit("params", None, size, None))
    assert found.layers == teacher.layers
    assert NEAR * size <= count_parameters(found).total <= size
    # What is given stays, and the rest makes up for it.
    found = solved(teacher, Given(layers, heads, None, rank), Limit("params", None, size, None))
    assert found == narrowed(shallower(teacher, layers), heads, units, rank)

"""Whether a method can do what a recipe asks of it, before anything is computed."""

from __future__ import annotations

from flows.recipes.methods import goal, parts_of
from flows.recipes.presets import DEFAULT_SHARE, NO_REPAIR, ROSITA, Parts
from flows.recipes.schema import Recipe
from flows.recipes.sizes import given_sizes, limit_of
from rosita_core.compression.budgets.budget import MACS, allowed, purse_of, size_of
from rosita_core.model.shape import Shape
from rosita_core.plug_ins import load, names


def check_method(
    recipe: Recipe, teacher: Shape, student: Shape | None, regression: bool
) -> tuple[str, ...]:
    """What a plan says of the method.

    Raises:
        ValueError: where the method cannot use a field, or the budget cannot be met.
    """
    tokens, positions = recipe.compress.budget.tokens, teacher.frame.max_positions
    if tokens is not None and tokens > positions:
        raise ValueError(
            f"compress.budget.tokens must be at most {positions}, the positions of "
            f"{recipe.teacher.model}, got {tokens}"
        )
    if recipe.method == ROSITA:
        _check_rosita(recipe)
        return () if student is None else _solved(recipe, teacher, student)
    parts = parts_of(recipe)
    _check_criterion(recipe, parts, regression)
    _check_read(recipe, parts)
    _check_floor(recipe, teacher)
    rank = recipe.compress.embedding_rank
    if rank is not None and rank > teacher.rank:
        raise ValueError(
            f"compress.embedding_rank must be at most {teacher.rank} for {teacher}, got {rank}"
        )
    _check_budget(recipe, parts, teacher)
    repair = "" if parts.repair == NO_REPAIR else f", then repair {parts.repair}"
    made = f"{parts.rank} ranks, {parts.allocate} allocates"
    made += ", what cancels goes" if parts.rearrange else ""
    return (f"method {recipe.method}: {made}{repair}; {goal(recipe)}", *_tokens(recipe))


def _check_rosita(recipe: Recipe) -> None:
    rank = recipe.compress.rank
    if rank is not None and not _while_training(rank):
        usable = [name for name in names("compression.criteria") if _while_training(name)]
        raise ValueError(
            f"compress.rank must be one of {', '.join(usable)} for method rosita, got {rank!r}"
        )


def _while_training(criterion: str) -> bool:
    return hasattr(load("compression.criteria", criterion), "accumulate")


def _check_criterion(recipe: Recipe, parts: Parts, regression: bool) -> None:
    kind = load("compression.criteria", parts.rank)
    labelled = getattr(kind, "needs_labels", False) or getattr(kind, "needs_gradients", False)
    if not recipe.compress.calibration.labels:
        for what, needs in ((f"criterion {parts.rank}", labelled), ("rearrange", parts.rearrange)):
            if needs:
                raise ValueError(
                    f"compress.calibration.labels must be true for {what}, which reads the "
                    "gradient of the loss, got False"
                )
    if regression and getattr(kind, "needs_classes", False):
        raise ValueError(
            f"compress.rank must be another criterion where a number is predicted, "
            f"got {parts.rank!r}, which reads the probability of a class"
        )


def _check_read(recipe: Recipe, parts: Parts) -> None:
    """Whether what is set is read by a part of the method."""
    fields = type(recipe.compress).model_fields
    readers = {
        "kcm": (parts.rank == "kcm", f"compress.rank is kcm, which is {parts.rank}"),
        "ridge": (parts.repair == "dense", f"compress.repair is dense, which is {parts.repair}"),
    }
    for name, (read, reader) in readers.items():
        value = getattr(recipe.compress, name)
        if not read and value != fields[name].default:
            got = value if isinstance(value, float) else value.model_dump(exclude_defaults=True)
            raise ValueError(f"compress.{name} must be left alone unless {reader}, got {got}")


def _check_floor(recipe: Recipe, teacher: Shape) -> None:
    floor = recipe.compress.floor
    default = type(floor)()
    for name, least, has in (
        ("heads", default.heads, min(teacher.layer_heads)),
        ("units", default.units, min(teacher.layer_ffn_units)),
    ):
        value = getattr(floor, name)
        if value != least and value > has:
            raise ValueError(
                f"compress.floor.{name} must be at most {has}, what a layer of {teacher} has, "
                f"got {value}"
            )


def _check_budget(recipe: Recipe, parts: Parts, teacher: Shape) -> None:
    """Whether the floors fit; at some length where that of the rows is not known yet."""
    limit = limit_of(recipe, DEFAULT_SHARE)
    lengths = [limit.tokens or 1]
    if limit.count == MACS and limit.tokens is None:
        lengths.append(recipe.width.max_length)
    heads = getattr(load("compression.criteria", parts.rank), "ranks_heads", True)
    floor = recipe.compress.floor
    complaints = []
    for tokens in lengths:
        try:
            purse_of(
                *(teacher, limit, tokens, recipe.compress.embedding_rank),
                *((floor.heads, floor.units), heads),
            )
        except ValueError as error:
            complaints.append(error)
    if len(complaints) == len(lengths):
        raise complaints[0]


def _tokens(recipe: Recipe) -> tuple[str, ...]:
    budget = recipe.compress.budget
    if budget.count != MACS:
        return ()
    length = "the mean length of the calibration rows"
    if budget.tokens is not None:
        length = f"{budget.tokens} tokens"
    return (
        f"compress.budget counts multiply-adds at {length}, assess at "
        f"{recipe.assess.macs_tokens} tokens",
    )


def _solved(recipe: Recipe, teacher: Shape, student: Shape) -> tuple[str, ...]:
    """What the solver chose, where it had to."""
    limit = limit_of(recipe, None)
    free = [name for name, size in given_sizes(recipe).fields().items() if size is None]
    if limit.share is None and limit.at_most is None:
        return ()
    tokens = limit.tokens or 1
    has, may = size_of(student, limit.count, tokens), allowed(teacher, limit, tokens)
    chosen = f", chosen by it: {', '.join(free)}" if free else ""
    return (f"compress.budget: {student} has {has:,} of {may:,} {limit.count}{chosen}",)

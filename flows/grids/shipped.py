"""The grids that ship: the paper's ablations and a comparison of methods, for any recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flows.grids.definition import Changes
from flows.recipes.changes import flat
from flows.recipes.presets import METHODS, ROSITA
from flows.recipes.schema import Recipe
from flows.recipes.shipped import RECIPES
from flows.recipes.sizes import shapes

Axis = dict[str, Changes]
Parts = dict[str, Any]
Sizes = tuple[int, int, int, int]  # heads, layers, FFN units, embedding rank

# Students within 0.7 % of a2_l8_f512_e128 (14,474,754 parameters with two classes): from deep and
# narrow to wide and shallow at rank 128, then at twice the rank and thinner layers.
BERT_FAMILY: tuple[Sizes, ...] = (
    (2, 12, 256, 128),
    (2, 8, 512, 128),
    (2, 6, 768, 128),
    (2, 4, 1280, 128),
    (4, 4, 1024, 128),
    (4, 3, 1536, 128),
    (4, 2, 2560, 128),
    (2, 8, 192, 256),
    (2, 4, 640, 256),
)
# Students of MiniLM-L6 within 0.26 % of a2_l5_f180_e48 (3,026,342 parameters with two classes).
MINILM_FAMILY: tuple[Sizes, ...] = (
    (2, 6, 128, 48),
    (2, 5, 180, 48),
    (2, 4, 256, 48),
    (2, 3, 388, 48),
    (2, 2, 648, 48),
    (2, 1, 1424, 48),
    (2, 4, 96, 64),
)
FAMILIES = {(768, 12): BERT_FAMILY, (384, 6): MINILM_FAMILY}
FAMILY_BUDGET = 0.01

SHARES = (0.01, 0.1, 0.2, 0.5)
DEPTH_SHARES = (0.1, 0.2, 0.5)
ONE_STEP = "one-step"
# Part of training that ranks what a single cut removes, and the part that is short for any.
RANKING_SHARE, AT_ONCE = 0.01, 1e-6

# Of the encoder's parameters.
METHOD_SHARES = (0.5, 0.3)
# Meant are the three that are best on the selection rows without recovery (the metric
# `selection_score` of `cut`), at the smallest share.
RECOVERED = ("fisher-mask-search", "stat", "taylor")
# Of the recipe's passes in the last stage, so that three seeds take about 100 minutes.
METHOD_PASSES = 0.25
# Graphs of fifty models, and timings to the percent, would take longer than all trainings.
METHOD_ENDS: Changes = {"export.formats": ["hugging-face"], "assess.latency_repeats": 10}

# The switches that change something in KD setting 4: `bottom_layers` and `update_while_ranking`
# are of other settings, `first_layer_ranks_heads` needs a target that keeps every FFN unit.
SWITCHES = (
    "teacher_dropout",
    "relu_teacher_head",
    "hidden_on_padding",
    "average_over_classes",
    "bert_adam",
    "reset_optimizer",
    "last_step_teacher",
    "select_on_dev",
    "drop_last_batch",
    "pad_to_max_length",
)


@dataclass(frozen=True)
class Template:
    """A shipped grid that is still to be given its recipe.

    Attributes:
        description: what it asks, in one line.
        build: from the recipe and the fields that the user has set: the rest of the grid.
    """

    description: str
    build: Callable[[Recipe, frozenset[str]], Parts]


def kd_settings(recipe: Recipe, fixed: frozenset[str]) -> Parts:
    """Every KD setting: with the authors' schedule of each where they have one, else with one."""
    if recipe.name.startswith("paper-") and recipe.name in RECIPES:
        return {"axes": {"kd_setting": _authors_settings(recipe, fixed)}}
    axis: Axis = {setting: {"kd_setting": setting} for setting in ("none", "1", "2", "3", "4")}
    # Setting none learns from the original rows, which are fewer.
    axis["none"] |= _as_many_steps(recipe, ("width",))
    return {"axes": {"kd_setting": axis}}


def architecture(recipe: Recipe, fixed: frozenset[str]) -> Parts:
    """Shapes of one parameter budget.

    All cells run setting 4, the whole method, so that each has the same three trainings; where all
    layers are kept, the depth stage distills without removing any. All are pruned in the same
    number of steps.
    """
    teacher, _ = shapes(recipe, 2)
    frame = (teacher.frame.hidden_size, teacher.layers)
    if frame not in FAMILIES:
        raise ValueError(
            "recipe must have a teacher of 768 x 12 or 384 x 6 (hidden size x layers) for grid "
            f"architecture, got {frame[0]} x {frame[1]}"
        )
    heads = recipe.width.keep_heads or teacher.layer_heads[0]
    steps = recipe.width.prune_steps or max(1, teacher.layer_heads[0] - heads)
    axis: Axis = {
        f"a{heads}_l{layers}_f{units}_e{rank}": {
            "depth.keep_layers": layers,
            "width.keep_heads": heads,
            "width.ffn_units": units,
            "width.embedding_rank": rank,
        }
        for heads, layers, units, rank in FAMILIES[frame]
    }
    return {
        "set": {"width.prune_steps": steps},
        "axes": {"shape": axis},
        "budget": FAMILY_BUDGET,
    }


def pruning_frequency(recipe: Recipe, fixed: frozenset[str]) -> Parts:
    """One cut, or several over a part p of training; of width at the base's depth, and of depth.

    One step of width is one cut after 1 % of training, whose gradients rank everything at once.
    One step of depth removes the layers in the first steps. MiniLM's students keep 3 layers here,
    at the same budget, so that there are several layers to remove.
    """
    wanted: Changes = {}
    if (recipe.depth.keep_layers, recipe.width.ffn_units) == (5, 180):
        wanted = {"depth.keep_layers": 3, "width.ffn_units": 388}
    if wanted.keys() & fixed:
        wanted = {}
    width, depth = recipe.width.prune_fraction, recipe.depth.prune_fraction
    widths: Axis = {ONE_STEP: {"width.prune_steps": 1, "width.prune_fraction": RANKING_SHARE}}
    widths |= {f"{p:g}": {"width.prune_fraction": p} for p in sorted({*SHARES, width})}
    depths: Axis = {ONE_STEP: {"depth.prune_fraction": AT_ONCE}}
    depths |= {f"{p:g}": {"depth.prune_fraction": p} for p in sorted({*DEPTH_SHARES, depth})}
    axes = {"width.prune_fraction": widths, "depth.prune_fraction": depths}
    others = [
        {"width.prune_fraction": w, "depth.prune_fraction": d}
        for w in widths
        for d in depths
        if w != f"{width:g}" and d != f"{depth:g}"
    ]
    return {"set": wanted, "axes": axes, "exclude": others}


def lr_schedule(recipe: Recipe, fixed: frozenset[str]) -> Parts:
    """Learning-rate schedules of the last stage, at two pruning frequencies."""
    own = recipe.width.prune_fraction
    shares = sorted({0.01, 0.1 if own == 0.01 else own})
    schedules: Axis = {
        "constant": {"width.schedule": "constant", "width.warmup": 0.0},
        "decay": {"width.schedule": "linear", "width.warmup": 0.0},
        "warmup-decay": {"width.schedule": "linear", "width.warmup": 0.1},
    }
    frequencies: Axis = {f"{p:g}": {"width.prune_fraction": p} for p in shares}
    return {"axes": {"schedule": schedules, "width.prune_fraction": frequencies}}


def components(recipe: Recipe, fixed: frozenset[str]) -> Parts:
    """Setting 4, and the same without one of its parts or with one of the authors' deviations.

    Without factorization the student is larger: that cell is not of the same budget.
    """
    teacher, _ = shapes(recipe, 2)
    axis: Axis = {
        "full": {},
        "no-augmentation": {
            "augment.copies": 0,
            **_as_many_steps(recipe, ("student", "depth", "width")),
        },
        "no-hidden-loss": {"width.hidden": False},
        "no-factorization": {"width.embedding_rank": teacher.frame.hidden_size},
        "no-intermediate-student": {"kd_setting": "3"},
    }
    axis |= {name.replace("_", "-"): {f"fidelity.{name}": True} for name in SWITCHES}
    return {"axes": {"component": axis}}


def compression_methods(recipe: Recipe, fixed: frozenset[str]) -> Parts:
    """Every method at the same sizes of the encoder; some of them trained afterwards, and rosita.

    The embedding is left whole in all cells, as no other method touches it. kcm cuts no heads,
    which are a third of the encoder.
    """
    teacher, _ = shapes(recipe, 2)
    free = {
        "depth.keep_layers": None,
        "width.keep_heads": None,
        "width.ffn_units": None,
        "width.embedding_rank": teacher.frame.hidden_size,
    }
    methods: Axis = {name: {"method": name} for name in METHODS}
    methods[ROSITA] = {"method": ROSITA, **free}
    budgets: Axis = {f"{share:g}": {"compress.budget.share": share} for share in METHOD_SHARES}
    small = f"{min(METHOD_SHARES):g}"
    trained = f"{small}-kd"
    budgets[trained] = budgets[small] | {"compress.recover": "kd"}
    left_out = [{"method": name, "budget": trained} for name in methods if name not in RECOVERED]
    left_out += [{"method": "kcm", "budget": small}]
    left_out += [{"method": ROSITA, "budget": budget} for budget in budgets if budget != small]
    passes: Changes = {"width.epochs": round(METHOD_PASSES * recipe.width.epochs, 4)}
    wanted = METHOD_ENDS | passes
    wanted = {field: value for field, value in wanted.items() if field not in fixed}
    wanted["compress.budget.count"] = "encoder"
    excluded = [entry for number, entry in enumerate(left_out) if entry not in left_out[:number]]
    return {
        "set": wanted,
        "axes": {"method": methods, "budget": budgets},
        "exclude": excluded,
    }


TEMPLATES: dict[str, Template] = {
    "kd-settings": Template("KD setting none, 1, 2, 3 and 4", kd_settings),
    "architecture": Template(
        "one parameter budget, from deep and narrow to wide and shallow", architecture
    ),
    "pruning-frequency": Template(
        "one cut, or several over a part of training, of width and of depth", pruning_frequency
    ),
    "lr-schedule": Template(
        "constant, linear decay and warm-up, at two pruning frequencies", lr_schedule
    ),
    "methods": Template(
        "every method at the same encoder sizes, trained afterwards or not, and rosita",
        compression_methods,
    ),
    "components": Template(
        "setting 4 without one of its parts, and with each fidelity switch", components
    ),
}

SMOKE_GRID: Parts = {
    "name": "smoke-grid",
    "base": "smoke",
    "description": "KD settings 1 and 4 of the smoke recipe with two seeds, in minutes",
    "axes": {"kd_setting": ["1", "4"]},
    "seeds": [42, 43],
}


def _authors_settings(recipe: Recipe, fixed: frozenset[str]) -> Axis:
    """What the recipe of each setting changes, but for fields that the user has set."""
    own = flat(RECIPES[recipe.name]().model_dump(mode="json"))
    axis: Axis = {}
    for setting in ("none", "1", "2", "3"):
        # The paper has no schedules of settings 1 to 3 for QNLI and QQP.
        if (make := RECIPES.get(f"{recipe.name}-kd-{setting}")) is not None:
            other = flat(make().model_dump(mode="json"))
            differs = {k: v for k, v in other.items() if own[k] != v and k != "name"}
            axis[setting] = {k: v for k, v in differs.items() if k not in fixed}
    return axis | {"4": {"kd_setting": "4"}}


def _as_many_steps(recipe: Recipe, sections: tuple[str, ...]) -> Changes:
    """Fields that give as many optimizer steps without the augmented rows as with them."""
    factor = 1 + recipe.augment.copies
    changes: Changes = {}
    for name in sections:
        section = getattr(recipe, name)
        changes[f"{name}.epochs"] = round(section.epochs * factor, 3)
        changes[f"{name}.evaluations_per_epoch"] = section.evaluations_per_epoch / factor
        if section.patience is not None:
            changes[f"{name}.patience"] = section.patience * factor
    return changes

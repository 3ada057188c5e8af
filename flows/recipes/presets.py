"""The methods beside ROSITA: what each is made of. Nothing is imported here."""

from __future__ import annotations

from dataclasses import dataclass

ROSITA = "rosita"
NO_REPAIR = "none"
DEFAULT_SHARE = 0.5


@dataclass(frozen=True)
class Parts:
    """What a method without pruning during training is made of.

    Attributes:
        rank, allocate, repair: names of plug-ins; "none" repairs nothing.
        rearrange: whether what cancels goes instead of what is least, in each layer.
    """

    rank: str
    allocate: str
    rearrange: bool
    repair: str


METHODS = {
    "taylor": Parts("taylor", "uniform", False, NO_REPAIR),
    "fisher-mask-search": Parts("fisher", "global", True, "scale"),
    "kcm": Parts("kcm", "global", False, "scale"),
    "stat": Parts("pivots", "tolerance", False, "dense"),
    "attribution": Parts("attribution", "uniform", False, NO_REPAIR),
    "magnitude": Parts("magnitude", "uniform", False, NO_REPAIR),
    "random": Parts("random", "uniform", False, NO_REPAIR),
}
"""What each method is, where a recipe does not say otherwise."""

NOT_YET = {
    "method": ("gates", "policy-search", "pca", "factorize"),
    "compress.rank": ("gates",),
    "compress.allocate": ("policy",),
    "hidden": ("autocorrelation",),
}
"""Values of fields that are specified, and not built."""
NOT_YET_FIELDS = (
    *("kd.knowledge", "kd.targets", "kd.debias", "depth.choose", "export.codec", "tune"),
    *("model.layer_mix", "fidelity.authors_reference"),
)
"""Fields that are specified, and not built."""

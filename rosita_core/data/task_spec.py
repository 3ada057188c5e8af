"""What a task is: its classes, whether it reads pairs, and how it is scored.

Only the standard library is imported here, so that listing tasks stays cheap.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["classification", "regression"]
ClassScore = Literal["accuracy", "f1", "macro_f1", "mcc"]
CLASS_METRICS: tuple[str, ...] = get_args(ClassScore)
"""Metrics of classes, as named by `rosita_core.measuring.metrics`."""

HUB_REPOSITORY = "nyu-mll/glue"
HUB_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
"""A fixed commit, so that the same recipe reads the same rows."""


@dataclass(frozen=True)
class TaskSpec:
    """A task, independent of where its data comes from."""

    name: str
    """The name that recipes use."""
    kind: Kind
    """Predict one class, or one number."""
    labels: tuple[str, ...]
    """Class names in index order; empty for regression."""
    pair: bool
    """Whether each row has two texts."""
    metrics: tuple[str, ...]
    """Everything that is reported, as named by `rosita_core.measuring.metrics`."""
    score: str
    """The one of `metrics` that compares models."""
    hub_name: str | None
    """Configuration of the GLUE data set on the hub; None if the task is not in GLUE."""
    dev_splits: tuple[str, ...]
    """Official development splits; the first one gives the score. Empty if there is none."""

    @property
    def outputs(self) -> int:
        """Of a model: one for each class, or the number."""
        return len(self.labels) or 1

    def __post_init__(self) -> None:
        assert self.score in self.metrics, f"{self.name}: {self.score} not in {self.metrics}"


def _glue(
    name: str,
    labels: tuple[str, ...],
    *,
    pair: bool,
    metrics: tuple[str, ...] = ("accuracy",),
    dev_splits: tuple[str, ...] = ("dev",),
) -> TaskSpec:
    return TaskSpec(
        name=name,
        kind="classification",
        labels=labels,
        pair=pair,
        metrics=metrics,
        score=metrics[0],
        hub_name=name,
        dev_splits=dev_splits,
    )


REGRESSION_METRICS = ("pearson", "spearman", "pearson_spearman", "r2")

GLUE: dict[str, TaskSpec] = {
    spec.name: spec
    for spec in (
        _glue("cola", ("unacceptable", "acceptable"), pair=False, metrics=("mcc",)),
        _glue("sst2", ("negative", "positive"), pair=False),
        _glue("mrpc", ("not_equivalent", "equivalent"), pair=True, metrics=("accuracy", "f1")),
        TaskSpec(
            name="stsb",
            kind="regression",
            labels=(),
            pair=True,
            metrics=REGRESSION_METRICS,
            score="pearson_spearman",
            hub_name="stsb",
            dev_splits=("dev",),
        ),
        _glue("qqp", ("not_duplicate", "duplicate"), pair=True, metrics=("accuracy", "f1")),
        _glue(
            "mnli",
            ("entailment", "neutral", "contradiction"),
            pair=True,
            dev_splits=("dev_matched", "dev_mismatched"),
        ),
        _glue("qnli", ("entailment", "not_entailment"), pair=True),
        _glue("rte", ("entailment", "not_entailment"), pair=True),
        _glue("wnli", ("not_entailment", "entailment"), pair=True),
    )
}
"""The nine GLUE tasks. Class order is that of the hub, so that checkpoints can be exchanged."""

FILM_REVIEWS = TaskSpec(
    name="film-reviews",
    kind="classification",
    labels=("negative", "positive"),
    pair=False,
    metrics=("accuracy",),
    score="accuracy",
    hub_name=None,
    dev_splits=(),
)


def custom_task(
    name: str, kind: Kind, labels: tuple[str, ...], pair: bool, score: ClassScore
) -> TaskSpec:
    """The task of a user's own data: of classes, or scored by the correlations of GLUE's STS-B.

    score: of classes, what compares models. The others are reported, too: f1, which is that of the
    second class, where there are two.

    Raises ValueError for an unknown kind, for class names given to a regression, and for f1 of
    more than two classes.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    regression = kind == "regression"
    if regression and labels:
        raise ValueError(f"labels must be empty for regression, got {', '.join(labels)}")
    defined = tuple(metric for metric in CLASS_METRICS if metric != "f1" or len(labels) == 2)
    if not regression and score not in defined:
        raise ValueError(
            f"score must be one of {', '.join(defined)} for {len(labels)} classes, got {score!r}"
        )
    return TaskSpec(
        name=name,
        kind=kind,
        labels=labels,
        pair=pair,
        metrics=REGRESSION_METRICS if regression else defined,
        score="pearson_spearman" if regression else score,
        hub_name=None,
        dev_splits=(),
    )


def extra_name(dev_split: str) -> str:
    """The short name of a further dev split: dev_mismatched -> mismatched.

    It is the key in `Splits.dev_extra` and the suffix of its metrics (accuracy_mismatched).
    """
    return dev_split.removeprefix("dev_")

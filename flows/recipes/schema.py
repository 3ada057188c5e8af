"""A recipe: one complete, typed, frozen configuration of a compression. Every default lives here.

Importing this module is cheap (no torch), so that the command line answers quickly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from flows.recipes.presets import METHODS, NO_REPAIR, NOT_YET, NOT_YET_FIELDS, ROSITA
from flows.recipes.validation_errors import check_writable, first_complaint
from rosita_core.data.task_spec import GLUE, ClassScore
from rosita_core.plug_ins import names
from tasks.tracking.tags import GRAPH_SUFFIX

# What counts rows, steps or units; more would be a slip, and overflow somewhere later.
Positive = Annotated[int, Field(ge=1, le=10**9)]
Count = Annotated[int, Field(ge=1, lt=2**63)]
Few = Annotated[int, Field(ge=1, le=2**16)]
MOST_PASSES = 10**6
MOST_GB = 10**6
MOST_LETTERS = 200
"""Of a name: it becomes one of files, and of an experiment of MLflow."""
NOT_IN_NAMES = "/:.%\"'"
"""Letters that MLflow refuses in names of models."""
Rate = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Schedule = Literal["constant", "linear"]
KDSetting = Literal["none", "1", "2", "3", "4"]
NO_HIDDEN = "none"
CHECKPOINT = "hugging-face"


def _hidden_name(value: Any) -> Any:
    # Recipes said true or false before there were several ways; null is how YAML says none.
    if value is None or isinstance(value, bool):
        return "states" if value else NO_HIDDEN
    return value


def _built(field: str) -> BeforeValidator:
    """Refuses the values of `field` that are not built."""

    def check(value: Any) -> Any:
        if value in NOT_YET[field]:
            raise ValueError(f"{field} must be something that is built, got {value!r}: not yet")
        return value

    return BeforeValidator(check)


if TYPE_CHECKING:
    MethodName = str
    CriterionName = str
    AllocationName = str
    RepairName = str
    HiddenLoss = str
    ExportFormat = str
else:
    # The files of the rooms are the choices.
    MethodName = Literal[(ROSITA, *METHODS)]
    CriterionName = Literal[names("compression.criteria")]
    AllocationName = Literal[names("compression.allocation")]
    RepairName = Literal[(NO_REPAIR, *names("compression.repair"))]
    ExportFormat = Literal[names("export")]
    HiddenLoss = Literal[
        (NO_HIDDEN, *(name for name in names("distillation.objectives") if name != "predictions"))
    ]
Method = Annotated[MethodName, _built("method")]
Criterion = Annotated[CriterionName, _built("compress.rank")]
Allocation = Annotated[AllocationName, _built("compress.allocate")]
Hidden = Annotated[HiddenLoss, BeforeValidator(_hidden_name), _built("hidden")]


class Section(BaseModel):
    """A part of a recipe: frozen, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        # Python counts true as 1, and `keep_heads: yes` would be one head.
        values = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(one, bool) for one in values) and info.field_name is not None:
            kinds = str(cls.model_fields[info.field_name].annotation)
            if cls.model_fields[info.field_name].annotation is not bool and (
                "int" in kinds or "float" in kinds
            ):
                raise PydanticCustomError("not_a_number", "a number")
        return value


class Columns(Section):
    text_a: str = Field("text", description="column of the (first) text")
    text_b: str | None = Field(None, description="column of the second text of a pair")
    label: str = Field("label", description="column of the class, or of the number to predict")

    @model_validator(mode="after")
    def _differ(self) -> Columns:
        roles = {"text_a": self.text_a, "text_b": self.text_b, "label": self.label}
        for role, other in (("label", "text_a"), ("text_b", "text_a"), ("text_b", "label")):
            if roles[role] == roles[other]:
                raise ValueError(
                    f"data.columns.{role} must be another column than {other}, "
                    f"got {roles[role]!r} for both"
                )
        return self


class Data(Section):
    source: Literal["glue-dir", "hub", "files", "packaged"] = Field(
        "hub", description="a GLUE directory, the hub, own files, or the demo's package"
    )
    path: str | None = Field(None, description="glue-dir: the task's directory or its parent")
    train: str | None = Field(
        None,
        description="files: .csv, .tsv, .jsonl, .ndjson, .json (each with .gz, too), .parquet, "
        "a folder of Parquet files, or one that datasets saved",
    )
    dev: str | None = Field(
        None,
        description="files: rows to report on, as train (of a folder its split validation); none "
        "holds some out",
    )
    columns: Columns = Columns()
    kind: Literal["classification", "regression"] = Field(
        "classification", description="what a custom task predicts"
    )
    score: ClassScore = Field(
        "accuracy",
        description="what compares models of a custom task with classes; f1 is that of the second "
        "of two",
    )
    select_fraction: Fraction = Field(
        0.1, description="part of the training rows that chooses checkpoints and nothing else"
    )
    dev_rows: Positive | None = Field(
        None, description="rows held out for reporting where the source has no dev split"
    )
    limit_rows: Positive | None = Field(None, description="at most so many rows per split")
    domains: tuple[Literal["films", "amazon", "nyt", "tweets"], ...] = Field(
        ("films",), min_length=1, description="packaged: whose sentences are trained on"
    )
    split_seed: int = Field(
        42, ge=0, lt=2**32, description="of the split, so that seeds are compared on the same rows"
    )


class Training(Section):
    """Fields that every training has."""

    learning_rate: Rate
    epochs: float = Field(
        ge=0,
        le=MOST_PASSES,
        description="passes over the stage's rows; 0 takes a fine-tuned teacher as it is",
    )
    schedule: Schedule = Field("linear", description="linear decays to zero")
    warmup: Fraction = Field(0.0, description="part of all steps in which the rate rises")
    batch_size: Positive = 32
    accumulate: Positive = Field(1, description="mini-batches per optimizer step")
    max_length: int = Field(64, ge=8, description="tokens per sequence")
    weight_decay: float = Field(0.01, ge=0, le=1)
    clip_norm: float = Field(1.0, gt=0)
    evaluations_per_epoch: float = Field(
        2.0, gt=0, le=MOST_PASSES, description="scores on the selection rows"
    )
    patience: float | None = Field(
        None, gt=0, description="stop after so many epochs without a better score"
    )
    dropout: Fraction | None = Field(
        None, description="once pruning has finished; none: the checkpoint's own"
    )


class Distilled(Training):
    """Fields of a training that a teacher guides."""

    epochs: float = Field(
        gt=0, le=MOST_PASSES, description="passes over the stage's rows; fractions are fine"
    )
    temperature: float = Field(1.0, ge=0.01, le=1000)


def _texts(value: Any) -> Any:
    # YAML reads a class that is called 0 as a number.
    if not isinstance(value, dict):
        return value
    texts = {_text(name): _text(label) for name, label in value.items()}
    if len(texts) < len(value):
        raise PydanticCustomError("twice", "a map that has each class once")
    return texts


def _text(value: Any) -> Any:
    whole = isinstance(value, float) and value.is_integer()
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(int(value) if whole else value) if number else value


class Teacher(Training):
    model: str = Field(description="minilm-l6, bert-base, a checkpoint directory or a hub model")
    labels: Annotated[dict[str, str], BeforeValidator(_texts)] | None = Field(
        None, description="class of the checkpoint -> class of the data, where names do not tell"
    )


class Student(Distilled):
    start: Literal["pretrained", "teacher"] = Field(
        "pretrained", description="what BERT(student) is before it learns"
    )
    hidden: Hidden = Field(NO_HIDDEN, description="what of the hidden states is learned, too")


class Depth(Distilled):
    keep_layers: Positive | None = Field(description="layers; none: by compress.budget")
    prune_fraction: Share = Field(0.5, description="part of training in which layers go")
    hidden: Hidden = Field(NO_HIDDEN, description="what of the hidden states is learned, too")


class Width(Distilled):
    keep_heads: Positive | None = Field(
        description="attention heads per layer; none: by compress.budget"
    )
    ffn_units: Positive | None = Field(
        description="FFN (intermediate) units per layer; none: by compress.budget"
    )
    embedding_rank: Positive | None = Field(
        description="of the word embedding; none: by compress.budget"
    )
    prune_fraction: Share = Field(0.1, description="part of training in which pruning happens")
    prune_steps: Positive | None = Field(None, description="prunes; none: one per head removed")
    hidden: Hidden = Field("states", description="what of the hidden states is learned, too")


class KD(Section):
    """How trainings learn from a teacher."""

    cache: Literal["auto", "none", "predictions", "states"] = Field(
        "auto",
        description="of a training that passes over its rows more than 1.5 times, what its teacher "
        "says is computed once and kept; predictions: where it learns nothing else; states: "
        "however large they are",
    )
    cache_gb: float = Field(
        8.0,
        gt=0,
        le=MOST_GB,
        description="auto: where hidden states of a training's rows take more (10^9 bytes), its "
        "teacher computes",
    )


class Budget(Section):
    """How large the compressed model may be; every method counts alike."""

    count: Literal["params", "encoder", "macs"] = Field(
        "encoder",
        description="parameters of the model (params) or its encoder, or the encoder's "
        "multiply-adds (macs)",
    )
    share: Share | None = Field(
        None, description="of the teacher's; none: 0.5, unless method is rosita or at_most is given"
    )
    at_most: Count | None = Field(None, description="instead of share: a number of them")
    tokens: Positive | None = Field(
        None, description="of a sequence, for macs; none: the mean of the calibration rows"
    )


class CalibrationRows(Section):
    """The training rows that a teacher is measured on, one sample for all methods."""

    rows: Positive | None = Field(
        None, description="how many; none: 2,048, or all where there are fewer"
    )
    batch_size: Positive = Field(32, description="rows of a mini-batch, whose gradients are summed")
    labels: bool = Field(True, description="whether their labels are read")


class Floor(Section):
    """What every layer keeps, whatever it is worth."""

    heads: Positive = 1
    units: Positive = 8


class KcmSettings(Section):
    merge: Literal["ranks", "product"] = Field(
        "ranks", description="of both scores: mean rank in a layer, or min-max by z-score"
    )
    sigma: float | None = Field(
        None, gt=0, le=10**6, description="width of the kernel; none: the median distance"
    )
    alpha: float = Field(1e-3, gt=0, lt=1, description="relative change that ends the iteration")


class Compress(Section):
    """How methods other than rosita cut; what is none here the method presets."""

    rank: Criterion | None = Field(
        None, description="what heads and FFN units are ranked by; rosita: taylor"
    )
    allocate: Allocation | None = Field(None, description="how the budget is spent over the layers")
    rearrange: bool | None = Field(
        None, description="what cancels each other goes instead of the least, in each layer"
    )
    repair: RepairName | None = Field(
        None, description="new weights for what is kept, without training"
    )
    budget: Budget = Budget()
    floor: Floor = Floor()
    calibration: CalibrationRows = CalibrationRows()
    embedding_rank: Positive | None = Field(
        None, description="of the word embedding; none keeps it"
    )
    ridge: float = Field(
        1e-3, gt=0, le=10**6, description="of the repair dense: how much it keeps to the weights"
    )
    kcm: KcmSettings = KcmSettings()
    recover: Literal["none", "labels", "kd"] = Field(
        "none", description="training of what is left, by the fields of width"
    )


class Proposers(Section):
    mlm: str | None = Field(None, description="a masked language model, for one-piece words")
    vectors: str | None = Field(
        "glove-6b-50d", description="word vectors: a packaged name or a GloVe text file"
    )


class Augment(Section):
    copies: int = Field(
        20, ge=0, le=10_000, description="variants per row; 0 for the originals only"
    )
    replace_probability: float = Field(0.4, ge=0, le=1)
    candidates: Positive = 15
    vocabulary: Positive = Field(100_000, description="most frequent words with vectors")
    mlm_batch_size: Positive = 64
    proposers: Proposers = Proposers()


class Assess(Section):
    latency_batch_sizes: tuple[Few, ...] = Field((1, 32), min_length=1)
    latency_tokens: Positive = 64
    latency_repeats: Few = 30
    latency_warmup: Few = 5
    macs_tokens: Positive = Field(128, description="length at which multiply-adds are counted")
    batch_size: Positive = 64
    domains: tuple[Literal["films", "amazon", "nyt", "tweets"], ...] = Field(
        (), description="packaged: further dev rows, of domains that are not trained on"
    )
    people: bool = Field(
        False, description="packaged: how near predictions are to what people said of films"
    )
    baselines: tuple[Literal["majority", "linear"], ...] = Field(
        (), description="scores of the most frequent class, and of a linear model on TF-IDF"
    )

    @field_validator("latency_batch_sizes", "baselines")
    @classmethod
    def _differ(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise PydanticCustomError("twice", "a list that has each once")
        return values


class Export(Section):
    formats: tuple[ExportFormat, ...] = Field(
        ("hugging-face", "onnx", "onnx-int8"),
        description="what the model is written as; hugging-face is always among them",
    )
    int8_loss: float = Field(
        0.5, ge=0, description="points of score that int8 may lose, or it is left out"
    )

    @field_validator("formats")
    @classmethod
    def _with_the_checkpoint(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        if CHECKPOINT not in formats or len(set(formats)) < len(formats):
            raise PydanticCustomError("formats", f"{CHECKPOINT} and others, each once")
        return formats


class Numerics(Section):
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<index>")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: Literal["auto"] | Few = "auto"
    deterministic: bool = Field(False, description="only operations that repeat to the bit")
    processes: Positive = Field(
        1, description="that share each training's batches, on a GPU each (or on the cores)"
    )


class Checkpoint(Section):
    every_seconds: float = Field(300.0, gt=0, description="an unfinished stage is saved this often")
    every_steps: Positive | None = Field(
        None,
        description="and after so many steps (rows in augment and in targets), if they come sooner",
    )


class Fidelity(Section):
    """The authors' deviations from their method, all off; on to reproduce their numbers.

    Not reproducible on purpose: variants of a second sentence that all meet one first sentence, the
    word itself among its candidates, replaced negations, and prunes that depend on exact zeros.
    """

    teacher_dropout: bool = Field(False, description="the teacher stays in train mode")
    relu_teacher_head: bool = Field(False, description="targets are classifier(relu(pooled))")
    hidden_on_padding: bool = Field(False, description="hidden loss averaged over padding too")
    average_over_classes: bool = Field(False, description="prediction loss divided by classes")
    bert_adam: bool = Field(False, description="no bias correction, each tensor clipped alone")
    reset_optimizer: bool = Field(False, description="moments forgotten at every prune")
    first_layer_ranks_heads: bool = Field(False, description="unless FFN units are pruned")
    bottom_layers: bool = Field(
        False, description="settings 1-3 keep the bottom layers, as none does"
    )
    update_while_ranking: bool = Field(False, description="setting 2 trains while it ranks")
    last_step_teacher: bool = Field(False, description="the last teacher, not the best")
    select_on_dev: bool = Field(False, description="checkpoints chosen on the reported rows")
    drop_last_batch: bool = False
    pad_to_max_length: bool = False


class Gate(Section):
    """What a teacher must be to be used, and a student to be registered. In no key."""

    weak_teacher: Literal["stop", "warn"] = Field(
        "stop",
        description="on the selection rows it is not better than chance, its classes are mixed up, "
        "or its numbers hardly vary: no student is made of it, or it is said",
    )
    weak_student: Literal["refuse", "warn"] = Field(
        "refuse",
        description="on the dev rows it is not better than the most frequent class or a constant, "
        "or its numbers hardly vary: it is exported and not registered, or it is said",
    )
    retention: float | None = Field(
        None, gt=0, description="part of the teacher's score that a registered student keeps"
    )


OWN_TASK = "custom"


class Recipe(Section):
    name: str = Field("custom", max_length=MOST_LETTERS, description="what runs are called")
    problem: str | None = Field(
        None,
        max_length=MOST_LETTERS,
        pattern=f"^[^{NOT_IN_NAMES}]+$",
        description="whose runs and models lie together in MLflow, as rosita-<problem>; null: the "
        "task, and the recipe's name for own data",
    )
    task: str = Field(description="a GLUE task, film-reviews, or custom")
    data: Data = Data()
    seed: int = Field(42, ge=0, lt=2**32, description="of training, dropout and augmentation")
    method: Method = Field(
        ROSITA, description="how the teacher is compressed; all but rosita cut it at once"
    )
    kd_setting: KDSetting = Field(
        "4", description="of method rosita: none, 1, 2, 3, or 4, the whole method"
    )
    teacher: Teacher
    augment: Augment = Augment()
    kd: KD = KD()
    student: Student
    depth: Depth
    width: Width
    compress: Compress = Compress()
    assess: Assess = Assess()
    export: Export = Export()
    numerics: Numerics = Numerics()
    checkpoint: Checkpoint = Checkpoint()
    fidelity: Fidelity = Fidelity()
    gate: Gate = Gate()

    @field_validator("name", "problem")
    @classmethod
    def _is_a_line(cls, value: str | None) -> str | None:
        if value is not None and not (value.isprintable() and value.strip(" .")):
            raise PydanticCustomError("line", "a line of letters, not of blanks or dots alone")
        return value

    @property
    def of_problem(self) -> str:
        """The problem, by which MLflow keeps runs and models together."""
        own = re.sub(f"[{NOT_IN_NAMES}]", "-", self.name)
        return self.problem or (own if self.task == OWN_TASK else self.task)

    @model_validator(mode="before")
    @classmethod
    def _kd_setting_is_text(cls, values: Any) -> Any:
        # YAML and people write `kd_setting: 4` and `none`; the field holds text.
        if isinstance(values, dict) and isinstance(values.get("kd_setting"), int):
            return values | {"kd_setting": str(values["kd_setting"])}
        if isinstance(values, dict) and "kd_setting" in values and values["kd_setting"] is None:
            return values | {"kd_setting": "none"}
        return values

    @model_validator(mode="after")
    def _problem_is_no_graph(self) -> Recipe:
        if self.of_problem.endswith(GRAPH_SUFFIX):
            field = "name" if self.problem is None else "problem"
            raise ValueError(
                f"{field} must not end in {GRAPH_SUFFIX}, as registered graphs do, "
                f"got {self.of_problem!r}"
            )
        return self

    @model_validator(mode="after")
    def _data_fits_task(self) -> Recipe:
        source, task = self.data.source, self.task
        if task not in (*GLUE, "film-reviews", "custom"):
            known = ", ".join((*GLUE, "film-reviews", "custom"))
            raise ValueError(f"task must be one of {known}, got {task!r}")
        allowed = {"film-reviews": ("packaged",), "custom": ("files",)}.get(
            task, ("hub", "glue-dir")
        )
        if source not in allowed:
            raise ValueError(
                f"data.source must be {' or '.join(allowed)} for task {task}, got {source!r}"
            )
        read = {"path": ("glue-dir",), "train": ("files",), "dev": ("files",)}
        for field, sources in read.items():
            value = getattr(self.data, field)
            if value is not None and source not in sources:
                raise ValueError(
                    f"data.{field} must be empty unless data.source is {' or '.join(sources)}, "
                    f"got {value!r} with {source}"
                )
        self._domains_fit()
        self._method_fits()
        for name in ("teacher", "student", "depth", "width"):
            rows = getattr(self, name).batch_size
            if self.numerics.processes > rows:
                raise ValueError(
                    f"numerics.processes must be at most {name}.batch_size, {rows}, "
                    f"got {self.numerics.processes}"
                )
        if source != "files" and self.data.kind != "classification":
            raise ValueError(
                f"data.kind must be left alone unless task is custom, got {self.data.kind!r}"
            )
        if (source != "files" or self.data.kind == "regression") and self.data.score != "accuracy":
            raise ValueError(
                f"data.score must be left alone unless task is custom with classes, "
                f"got {self.data.score!r}"
            )
        if source == "packaged" and self.data.dev_rows is None:
            raise ValueError("data.dev_rows must be set for data.source packaged, got none")
        if source == "files" and self.data.train is None:
            raise ValueError("data.train must name a file for data.source files, got none")
        if source == "glue-dir" and self.data.path is None:
            raise ValueError("data.path must name a directory for data.source glue-dir, got none")
        if source == "files" and self.data.dev is None and self.data.dev_rows is None:
            raise ValueError("data.dev_rows must be set where data.dev is not, got neither")
        if self.data.select_fraction == 0 and not self.fidelity.select_on_dev:
            raise ValueError(
                "data.select_fraction must be above 0 unless fidelity.select_on_dev is on, got 0"
            )
        return self

    def _domains_fit(self) -> None:
        """Whether there are such rows, and none is trained and reported on."""
        packaged, trained, reported = (
            self.data.source == "packaged",
            self.data.domains,
            self.assess.domains,
        )
        for name, domains in (("data.domains", trained), ("assess.domains", reported)):
            if len(set(domains)) < len(domains):
                raise ValueError(f"{name} must differ, got {', '.join(domains)}")
        asked = reported or self.assess.people or trained != ("films",)
        if asked and not packaged:
            raise ValueError(
                f"data.domains, assess.domains and assess.people must be left alone unless "
                f"data.source is packaged, got {self.data.source!r}"
            )
        if both := [domain for domain in reported if domain in trained]:
            raise ValueError(
                f"assess.domains must be others than data.domains, got {both[0]!r} in both"
            )
        if self.assess.people and "films" not in trained:
            raise ValueError(
                f"data.domains must hold films for assess.people, got {', '.join(trained)}"
            )

    def _method_fits(self) -> None:
        """Whether the method reads what is set."""
        compress, budget = self.compress, self.compress.budget
        if budget.share is not None and budget.at_most is not None:
            raise ValueError(
                f"compress.budget must have share or at_most, got {budget.share:g} and "
                f"{budget.at_most}"
            )
        if self.method == ROSITA:
            unread = ("allocate", "rearrange", "repair", "floor", "calibration", "embedding_rank")
            for name in (*unread, "ridge", "kcm", "recover"):
                value, default = getattr(compress, name), Compress.model_fields[name].default
                if value != default:
                    raise ValueError(
                        f"compress.{name} must be left alone for method rosita, got {value!r}"
                    )
        if budget.tokens is not None and budget.count != "macs":
            raise ValueError(
                f"compress.budget.tokens must be left alone unless count is macs, "
                f"got {budget.tokens}"
            )


def _sections(part: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in part.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield f"{prefix}{name}"
            yield from _sections(field.annotation, f"{prefix}{name}.")


SECTIONS = frozenset(_sections(Recipe))
"""Dotted names of all sections; what else is a map is the value of a field."""


def validated(values: dict[str, Any]) -> Recipe:
    """The recipe of nested values.

    Raises:
        ValueError: one line naming the field, the bound and the value.
    """
    for field in NOT_YET_FIELDS:
        if (got := _at(values, field)) is not None:
            raise ValueError(f"{field} must be left out, got {got!r}: not yet")
    check_writable(values)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise ValueError(first_complaint(error, Recipe)) from None


def _at(values: Any, field: str) -> Any:
    """The value at a dotted field of nested values, None where there is none."""
    for name in field.split("."):
        if not isinstance(values, dict):
            return None
        values = values.get(name)
    return values

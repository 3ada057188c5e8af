"""The README.md of an exported checkpoint: what the model is and how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from rosita_core.export.markdown import code, plain
from rosita_core.model.shape import Shape, count_parameters

ROSITA = "rosita"
LOADS_IN = ("4.46.3", "4.57.6", "5.24.0")
"""Versions of transformers in which exported models are tested (`make test-versions`)."""
FOLDER_PLACEHOLDER = "path/to/this/folder"
_EXAMPLE = "The plot is thin, but the actors carry the film."
_EXAMPLE_PAIR = "The cast makes up for a weak story."


TASK = "text-classification"
METRICS = {"mcc": "matthews_correlation"}
"""Metrics that the hub calls by another name."""


@dataclass(frozen=True)
class Listing:
    """What the hub lists a model by; None where it is not known, and then not said.

    Attributes:
        base_model: the model that was compressed, as the hub calls it.
        license: of the base model, which holds for what is made of it.
        language: of the rows, such as en.
        dataset, dataset_config, dataset_split: of the hub, which the score is from.
    """

    base_model: str | None
    license: str | None
    language: str | None
    dataset: str | None
    dataset_config: str | None
    dataset_split: str | None


UNLISTED = Listing(None, None, None, None, None, None)
"""Nothing of it is on the hub."""


@dataclass(frozen=True)
class CardFacts:
    """What a model card says beyond what the model itself shows.

    Attributes:
        task: name of the task.
        pair: whether the model reads two texts.
        columns: role (text_a, text_b, label) -> its column in the user's own data, as a model's
            configuration has it; empty for other data.
        teacher: name of the model that was compressed, such as minilm-l6.
        teacher_shape: its shape.
        method: by which it was compressed, such as rosita.
        kd_setting: how rosita did it: none, 1, 2, 3 or 4.
        recovered: how what another method left was trained: none, labels or kd.
        max_length: tokens per sequence in training; longer texts are cut there.
        seed: of the whole compression.
        score_name: the metric of the two scores, or None where there are none.
        teacher_score, student_score: on held-out rows, or None.
        retention: student score / teacher score, or None.
        notes: sentences that a reader of the scores has to know.
        listing: what the hub lists the model by.
        classes: what the user's own data calls the classes, in index order, where the model has
            other names for them.
    """

    task: str
    pair: bool
    columns: Mapping[str, str]
    teacher: str
    teacher_shape: Shape
    method: str
    kd_setting: str
    recovered: str
    max_length: int
    seed: int
    score_name: str | None
    teacher_score: float | None
    student_score: float | None
    retention: float | None
    notes: tuple[str, ...]
    listing: Listing
    classes: tuple[str, ...] = ()


def render_card(facts: CardFacts, student: Shape, labels: tuple[str, ...]) -> str:
    """The card as Markdown with a YAML header; the same facts give the same text.

    Args:
        facts: see there.
        student: shape of the model.
        labels: class names in index order, empty for regression.
    """
    parts = (
        _summary(facts, student),
        _sizes(facts, student),
        _outputs(labels),
        _use(facts, labels),
    )
    return str(ModelCard(f"---\n{_data(facts, student).to_yaml()}\n---\n\n" + "\n".join(parts)))


def _data(facts: CardFacts, student: Shape) -> ModelCardData:
    listing = facts.listing
    distilled = facts.kd_setting != "none" if facts.method == ROSITA else facts.recovered == "kd"
    tags = {
        facts.method: True,
        "pruning": True,
        "low-rank": student.embedding_rank is not None,
        "knowledge-distillation": distilled,
    }
    scored = facts.score_name is not None and facts.student_score is not None
    return ModelCardData(
        base_model=listing.base_model,
        language=listing.language,
        license=listing.license,
        library_name="transformers",
        pipeline_tag=TASK,
        tags=[tag for tag, true in tags.items() if true],
        datasets=None if listing.dataset is None else [listing.dataset],
        metrics=[_metric(facts)] if scored else None,
        model_name=f"{facts.task}-{student}" if scored else None,
        eval_results=[_result(facts)] if scored else None,
    )


def _metric(facts: CardFacts) -> str:
    return METRICS.get(str(facts.score_name), str(facts.score_name))


def _result(facts: CardFacts) -> EvalResult:
    listing = facts.listing
    return EvalResult(
        task_type=TASK,
        dataset_type=listing.dataset or facts.task,
        dataset_name=facts.task,
        dataset_config=listing.dataset_config,
        dataset_split=listing.dataset_split,
        metric_type=_metric(facts),
        metric_name=facts.score_name,
        metric_value=facts.student_score,
    )


def _summary(facts: CardFacts, student: Shape) -> str:
    reads = "a pair of texts" if facts.pair else "a text"
    how = _by_rosita(facts) if facts.method == ROSITA else _at_once(facts)
    return f"""# {plain(facts.task)}, {student}

An encoder that reads {reads}, compressed from {plain(facts.teacher)} by the method {how}

The name says what is left: attention heads in each layer (a), layers (l), feed-forward units in
each layer (f), rank of the word embedding (e).

- Task: {plain(facts.task)}
- Sequence length in training: {facts.max_length} tokens
- Seed: {facts.seed}
"""


def _by_rosita(facts: CardFacts) -> str:
    if facts.kd_setting == "none":
        learns = "What is left is fine-tuned on the labels, without distillation."
    else:
        learns = f"It learns from its teacher: knowledge distillation setting {facts.kd_setting}."
    return f"""ROSITA (Liu, Lin
and Yuan, AAAI 2021): attention heads, feed-forward units and layers are pruned, the word embedding
is factorized. {learns}"""


def _at_once(facts: CardFacts) -> str:
    after = {
        "none": "Nothing was trained afterwards.",
        "labels": "What is left is fine-tuned on the labels.",
        "kd": "What is left learns from its teacher.",
    }[facts.recovered]
    return f"""{plain(facts.method)}:
attention heads and feed-forward units are cut at once, by what was measured of the teacher.
{after}"""


def _sizes(facts: CardFacts, student: Shape) -> str:
    teacher, small = count_parameters(facts.teacher_shape), count_parameters(student)
    rows = [
        ("shape", str(facts.teacher_shape), str(student)),
        ("parameters", f"{teacher.total:,}", f"{small.total:,}"),
        ("of these, embedding", f"{teacher.embedding:,}", f"{small.embedding:,}"),
        ("of these, encoder", f"{teacher.encoder:,}", f"{small.encoder:,}"),
    ]
    if facts.teacher_score is not None and facts.student_score is not None:
        name = plain(facts.score_name or "score")
        rows.append((name, f"{facts.teacher_score:.4f}", f"{facts.student_score:.4f}"))
    lines = ["| | teacher | this model |", "|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", f"{teacher.total / small.total:.2f} times fewer parameters than the teacher."]
    if facts.retention is not None:
        lines.append(f"It keeps {100 * facts.retention:.1f} % of the teacher's score.")
    lines += [plain(note) for note in facts.notes]
    return "\n".join(lines) + "\n"


def _outputs(labels: tuple[str, ...]) -> str:
    if not labels:
        return "The output is one number.\n"
    lines = ["| index | class |", "|---|---|"]
    lines += [f"| {index} | {code(label)} |" for index, label in enumerate(labels)]
    return "\n".join(lines) + "\n"


def _use(facts: CardFacts, labels: tuple[str, ...]) -> str:
    texts = f'"{_EXAMPLE}"'
    asked = texts
    if facts.pair:
        texts += f', "{_EXAMPLE_PAIR}"'
        asked = f'{{"text": "{_EXAMPLE}", "text_pair": "{_EXAMPLE_PAIR}"}}'
    if labels:
        answer = "dict(zip(model.config.id2label.values(), logits.softmax(-1)[0].tolist()))"
    else:
        answer = "logits[0, 0].item()"
    return f"""## Use

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "{FOLDER_PLACEHOLDER}"
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
inputs = tokenizer(
    {texts},
    truncation=True,
    max_length={facts.max_length},
    return_tensors="pt",
)
logits = model(**inputs).logits
print({answer})
```

or

```python
from transformers import pipeline

classify = pipeline("text-classification", folder, trust_remote_code=True)
print(classify({asked}))
```

`trust_remote_code=True` lets transformers run `modeling_rosita.py` of this folder, which needs
torch and transformers only; versions {", ".join(LOADS_IN)} of transformers were tried. Where ROSITA
is installed, `import rosita_core.model.register` first and leave the argument out.
"""

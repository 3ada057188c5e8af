"""The stages beside ROSITA on a tiny model: measure, cut within a budget, recover."""

from dataclasses import replace

import pytest
import torch
from test_pruning import masked

from rosita_core.compression.allocation.tolerance import Tolerance
from rosita_core.compression.allocation.uniform import Uniform
from rosita_core.compression.budgets.budget import Limit, allowed, size_of
from rosita_core.compression.calibration import Calibration
from rosita_core.compression.criteria.attribution import Attribution
from rosita_core.compression.criteria.fisher import Fisher
from rosita_core.compression.criteria.kcm import Kcm
from rosita_core.compression.criteria.magnitude import Magnitude
from rosita_core.compression.criteria.pivots import Pivots
from rosita_core.compression.criteria.random import Random
from rosita_core.compression.criteria.taylor import Taylor
from rosita_core.compression.kept import Kept
from rosita_core.compression.prune_record import DOCUMENT, from_json
from rosita_core.compression.repair.dense import Dense
from rosita_core.compression.repair.scale import Scale
from rosita_core.measuring.score import scorer
from rosita_core.model.checkpoint import shape_of
from rosita_core.plug_ins import load
from rosita_core.stages.cut import CUT, CutSettings, cut
from rosita_core.stages.measure import MeasureSettings, measure
from rosita_core.stages.recover import RecoverSettings, recover

Global = load("compression.allocation", "global")
CALIBRATION = Calibration(rows=20, batch_size=8, max_length=16, seed=3)
METHODS = {
    "taylor": {"criterion": Taylor()},
    "fisher-mask-search": {
        "criterion": Fisher(),
        "allocation": Global(),
        "rearrange": True,
        "repair": Scale(),
    },
    "kcm": {
        "criterion": Kcm("ranks", None, 1e-3),
        "allocation": Global(),
        "repair": Scale(),
        "limit": Limit("encoder", 0.9, None, None),
    },
    "stat": {"criterion": Pivots(), "allocation": Tolerance(), "repair": Dense(1e-3)},
    "attribution": {"criterion": Attribution()},
    "magnitude": {"criterion": Magnitude()},
    "random": {"criterion": Random(1)},
}


@pytest.fixture
def dense(sized):
    return sized((4, 4, 4), (24, 24, 24))


@pytest.fixture
def data(rows):
    return rows(24), rows(8, seed=1)


@pytest.fixture
def measured(dense, data, framing, placement):
    settings = MeasureSettings(CALIBRATION, labels=True, regression=False)
    return measure(dense, data[0], framing, settings, placement, lambda _: None)


@pytest.fixture
def cut_by(dense, data, measured, framing, placement, scoring):
    base = CutSettings(
        criterion=Magnitude(),
        allocation=Uniform(False),
        rearrange=False,
        repair=None,
        limit=Limit("encoder", 0.5, None, None),
        floor_heads=1,
        floor_units=2,
        embedding_rank=None,
        calibration=CALIBRATION,
        scoring=scoring(),
    )

    def run(reports=None, **changes):
        settings = replace(base, **changes)
        report = (lambda _: None) if reports is None else reports.append
        return cut(dense, measured, *data, framing, settings, placement, report)

    return run


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_within_its_budget(
    cut_by, dense, data, framing, placement, scoring, snapshot, method
):
    before = snapshot(dense)
    done = cut_by(**METHODS[method])
    assert snapshot.unchanged(dense, before)
    source, target = shape_of(dense.config), shape_of(done.model.config)
    limit = METHODS[method].get("limit", Limit("encoder", 0.5, None, None))
    most, unit = allowed(source, limit, 1), 2 * 16 + 1
    assert most - unit < size_of(target, "encoder", 1) <= most
    assert not done.model.training
    score = scorer(data[1], scoring(), framing, placement)
    assert done.score == score(done.model)["score"]
    (record,) = from_json(done.documents[DOCUMENT])
    assert record.shape == str(target) and record.layers == (0, 1, 2)
    assert tuple(map(len, record.heads)) == target.layer_heads
    assert len(done.documents[CUT]["fits"]) == (6 if "repair" in METHODS[method] else 0)


@pytest.mark.parametrize("method", METHODS)
def test_what_was_kept_does_what_it_did_in_the_model(cut_by, dense, inputs, method):
    """The cut model is the dense one with gates of 0 on what went."""
    done = cut_by(**METHODS[method] | {"repair": None})
    kept = kept_of(dense, done.model)
    with torch.no_grad():
        expected = masked(dense, kept)(*inputs()).logits
        torch.testing.assert_close(done.model(*inputs()).logits, expected, rtol=1e-5, atol=1e-5)


def kept_of(dense, model):
    """What was kept, found again by the weights."""
    heads, units = [], []
    for old, new in zip(dense.bert.encoder.layer, model.bert.encoder.layer, strict=True):
        rows = old.attention.self.query.bias.view(-1, 4)
        heads.append(found(rows, new.attention.self.query.bias.view(-1, 4)))
        units.append(found(old.intermediate.dense.weight, new.intermediate.dense.weight))
    return Kept((0, 1, 2), tuple(heads), tuple(units), None)


def found(old, new):
    return torch.tensor([int((old == row).all(1).nonzero()[0, 0]) for row in new])


@pytest.mark.parametrize("method", METHODS)
def test_a_whole_budget_is_the_teacher(cut_by, dense, inputs, method):
    changes = METHODS[method] | {"limit": Limit("encoder", 1.0, None, None), "repair": None}
    done = cut_by(**changes)
    with torch.no_grad():
        assert torch.equal(done.model(*inputs()).logits, dense(*inputs()).logits)


def test_kcm_leaves_the_heads_alone(cut_by):
    done = cut_by(**METHODS["kcm"])
    assert shape_of(done.model.config).layer_heads == (4, 4, 4)


def test_multiply_adds_are_counted_at_the_mean_length_of_the_rows(cut_by, dense, measured):
    limit = Limit("macs", 0.6, None, None)
    done = cut_by(limit=limit)
    assert done.documents[CUT]["tokens"] == measured.mean_tokens
    whole, small = shape_of(dense.config), shape_of(done.model.config)
    assert measured.mean_tokens == -(-measured.tokens // 20)
    assert size_of(small, "macs", measured.mean_tokens) <= allowed(
        whole, limit, measured.mean_tokens
    )
    fixed = cut_by(limit=replace(limit, tokens=12))
    assert fixed.documents[CUT]["tokens"] == 12


def test_the_embedding_is_factorized_where_that_is_asked(cut_by):
    done = cut_by(embedding_rank=6, repair=Dense(1e-3))
    assert shape_of(done.model.config).embedding_rank == 6


def test_a_repair_makes_the_logits_more_like_the_teachers(cut_by, dense, inputs):
    def distance(model):
        with torch.no_grad():
            return float((model(*inputs()).logits - dense(*inputs()).logits).square().sum())

    plain = cut_by(criterion=Fisher(), allocation=Global())
    dense_repair = cut_by(criterion=Fisher(), allocation=Global(), repair=Dense(1e-3))
    assert distance(dense_repair.model) < distance(plain.model)
    assert shape_of(plain.model.config) == shape_of(dense_repair.model.config)


def test_measuring_says_first_what_it_needs_in_memory(dense, data, framing, placement):
    reports = []
    settings = MeasureSettings(replace(CALIBRATION, rows=None), labels=True, regression=False)
    found = measure(dense, data[0], framing, settings, placement, reports.append)
    assert reports[0].step == 0 and "measuring 24 rows; needs about" in reports[0].message
    assert reports[-1].step == reports[-1].total_steps == found.rows == 24


@pytest.mark.parametrize("labels", [True, False])
def test_what_was_cut_is_trained_in_its_shape(
    cut_by, dense, data, run_of, training, distillation, scoring, snapshot, labels
):
    done = cut_by(**METHODS["stat"])
    before = snapshot(done.model)
    settings = RecoverSettings(training(), None if labels else distillation(), scoring())
    trained = recover(done.model, dense, settings, run_of(*data))
    assert snapshot.unchanged(done.model, before)
    assert shape_of(trained.model.config) == shape_of(done.model.config)
    assert trained.steps == 6 and "prunes" not in trained.documents

"""The stages of the method, end to end on a tiny model: shapes reached, arguments untouched."""

from dataclasses import replace

import pytest
import torch
from small_trainings import CHOICE

from rosita_core.compression.allocation.uniform import Uniform
from rosita_core.compression.importance import Importance
from rosita_core.compression.ranking import rank
from rosita_core.measuring.score import scorer
from rosita_core.model.checkpoint import shape_of, with_dropout
from rosita_core.model.families.bert import Bert
from rosita_core.model.pretrained import Pretrained
from rosita_core.model.shape import narrowed, shallower, uniform_shape
from rosita_core.stages import one_step
from rosita_core.stages.depth import DepthSettings, prune_depth
from rosita_core.stages.one_step import OneStepSettings, prune_one_step
from rosita_core.stages.student import StudentSettings, distill
from rosita_core.stages.teacher import TeacherSettings, finetune
from rosita_core.stages.width import WidthSettings, prune_width
from rosita_core.training.hard_labels import hard_label_objective

# Which pretrained model a stage starts from is its caller's business: the kernels get the model.
ORIGIN = Pretrained(Bert(), "digest", 2, (0, 1), 0, "tiny", "nowhere")


@pytest.fixture
def teacher(tiny):
    return tiny(num_hidden_layers=3)


@pytest.fixture
def call(rows, run_of):
    """Call a stage with tiny rows; returns what it trained and what it reported."""

    def run(stage, *models, settings, originals=False, checkpoints=None):
        reports = []
        data = [rows(24)] if originals else []
        given = run_of(rows(24), rows(8, seed=1), reports.append, checkpoints)
        trained = stage(*models, *data, settings, given)
        assert not trained.model.training
        assert all(p.device.type == "cpu" for p in trained.model.parameters())
        return trained, reports

    return run


@pytest.fixture
def width(training, distillation, scoring):
    base = WidthSettings(
        start_layers=(0, 1, 2),
        keep_heads=2,
        ffn_units=10,
        embedding_rank=6,
        prune_steps=2,
        prune_fraction=0.5,
        criterion=CHOICE.criterion,
        allocation=CHOICE.allocation,
        reset_optimizer=False,
        training=training(keep_best=True),
        distillation=distillation(),
        scoring=scoring(),
    )
    return lambda **changes: replace(base, **changes)


@pytest.fixture
def cut(training, distillation, scoring):
    base = OneStepSettings(
        start_layers=(0, 2),
        keep_heads=2,
        ffn_units=10,
        embedding_rank=6,
        criterion=CHOICE.criterion,
        allocation=CHOICE.allocation,
        ranking=None,
        update_while_ranking=False,
        training=training(),
        distillation=distillation(),
        scoring=scoring(),
    )
    return lambda **changes: replace(base, **changes)


def test_teacher(call, teacher, training, scoring, snapshot, rows, framing, placement):
    before = snapshot(teacher)
    settings = TeacherSettings(ORIGIN, training(keep_best=True, evaluations_per_epoch=3), scoring())
    trained, reports = call(finetune, teacher, settings=settings)
    assert snapshot.unchanged(teacher, before)
    assert shape_of(trained.model.config) == shape_of(teacher.config)
    score = scorer(rows(8, seed=1), scoring(), framing, placement)
    assert score(trained.model)["score"] == trained.best_score
    assert trained.best_score == max(r.metrics.get("dev/score", 0) for r in reports)


def test_a_teacher_without_epochs_is_the_checkpoint(
    call, teacher, training, scoring, same_weights, rows, framing, placement
):
    settings = TeacherSettings(ORIGIN, training(epochs=0), scoring())
    trained, _ = call(finetune, teacher.train(), settings=settings)
    assert same_weights(trained.model, teacher)
    assert teacher.training
    assert (trained.steps, trained.best_step) == (0, 0)
    score = scorer(rows(8, seed=1), scoring(), framing, placement)
    assert trained.best_score == score(trained.model)["score"]


@pytest.mark.parametrize("train_mode", [True, False])
def test_student(call, teacher, tiny, training, scoring, distillation, snapshot, train_mode):
    teacher = teacher.train(train_mode)
    start = tiny(seed=1, num_hidden_layers=3)
    before, before_start = snapshot(teacher), snapshot(start)
    settings = StudentSettings("teacher", ORIGIN, training(), distillation(hidden=False), scoring())
    trained, reports = call(distill, teacher, start, settings=settings)
    assert snapshot.unchanged(teacher, before)
    assert snapshot.unchanged(start, before_start)
    assert shape_of(trained.model.config) == shape_of(start.config)
    assert "train/loss_hidden" not in reports[-1].metrics


def test_a_student_comes_closer_to_its_teacher(
    call, teacher, tiny, training, scoring, distillation
):
    start = with_dropout(tiny(seed=1, num_hidden_layers=3), 0.0)
    settings = StudentSettings("teacher", ORIGIN, training(epochs=10), distillation(), scoring())
    _, reports = call(distill, teacher, start, settings=settings)
    first, last = reports[0].metrics, reports[-1].metrics
    assert last["train/loss_hidden"] < 0.5 * first["train/loss_hidden"]


def test_depth(call, teacher, training, scoring, distillation, snapshot):
    before = snapshot(teacher)
    settings = DepthSettings(
        keep_layers=1,
        prune_fraction=0.5,
        reset_optimizer=False,
        training=training(keep_best=True),
        distillation=distillation(hidden=False),
        scoring=scoring(),
    )
    trained, reports = call(prune_depth, teacher, settings=settings)
    assert snapshot.unchanged(teacher, before)
    assert shape_of(trained.model.config) == shallower(shape_of(teacher.config), 1)
    assert [report.step for report in reports if report.message] == [2, 3]
    unpruned, _ = call(prune_depth, teacher, settings=replace(settings, keep_layers=3))
    assert shape_of(unpruned.model.config) == shape_of(teacher.config)


def test_width(call, teacher, width, snapshot):
    before = snapshot(teacher)
    trained, reports = call(prune_width, teacher, settings=width())
    assert snapshot.unchanged(teacher, before)
    assert shape_of(trained.model.config) == narrowed(shape_of(teacher.config), 2, 10, 6)
    assert [report.shape for report in reports if report.message] == [
        "a3_l3_f21_e11",
        "a2_l3_f10_e6",
    ]


def test_width_from_some_of_the_layers(call, teacher, width):
    trained, _ = call(prune_width, teacher, settings=width(start_layers=(0, 2)))
    frame = shape_of(teacher.config).frame
    assert shape_of(trained.model.config) == uniform_shape(frame, 2, 2, 10, 6)


def test_dropout_ends_with_pruning_and_the_model_keeps_its_own(
    call, teacher, width, cut, training, same_weights
):
    def trained(dropout):
        loop = training(keep_best=True, dropout=dropout)
        one, _ = call(prune_width, teacher, settings=width(training=loop))
        models = (teacher, teacher, teacher)
        two, _ = call(prune_one_step, *models, settings=cut(training=loop), originals=True)
        return one.model, two.model

    found = {dropout: trained(dropout) for dropout in (None, 0.0, 0.4)}
    for models in found.values():
        for model in models:
            assert model.config.hidden_dropout_prob == teacher.config.hidden_dropout_prob
            assert model.config.classifier_dropout == teacher.config.classifier_dropout
    for i in (0, 1):
        assert not same_weights(found[None][i], found[0.0][i])
        assert not same_weights(found[0.4][i], found[0.0][i])


def test_the_first_layer_ranks_heads_on_request(call, teacher, width, same_weights):
    settings = width(ffn_units=32, prune_steps=1)
    plain, _ = call(prune_width, teacher, settings=settings)
    again, _ = call(prune_width, teacher, settings=settings)
    authors, _ = call(prune_width, teacher, settings=replace(settings, allocation=Uniform(True)))
    assert same_weights(plain.model, again.model)
    assert shape_of(authors.model.config) == shape_of(plain.model.config)
    assert not same_weights(authors.model, plain.model)


@pytest.mark.parametrize("setting", ["none", "1", "2"])
def test_one_step(call, teacher, tiny, cut, distillation, snapshot, setting):
    tuned = tiny(seed=1, num_hidden_layers=3)
    source, kd_teacher, settings = {
        "none": (teacher, teacher, cut(distillation=None)),
        "1": (teacher, teacher, cut()),
        "2": (tuned, tuned, cut(ranking=distillation(hidden=False))),
    }[setting]
    before = [snapshot(model) for model in (teacher, tuned)]
    trained, reports = call(
        prune_one_step, source, kd_teacher, teacher, settings=settings, originals=True
    )
    assert all(
        snapshot.unchanged(model, b) for model, b in zip((teacher, tuned), before, strict=True)
    )
    frame = shape_of(teacher.config).frame
    assert shape_of(trained.model.config) == uniform_shape(frame, 2, 2, 10, 6)
    assert [r.message for r in reports if r.message][-1] == "pruned a4_l3_f32_e16 -> a2_l2_f10_e6"
    distilled = "train/loss_hidden" in reports[-1].metrics
    assert distilled == (setting != "none")


def test_ranking_is_the_gradient_without_updates(teacher, cut, rows, run_of):
    data = rows(24)

    def ranking(update_while_ranking=False, **changes):
        found = rank(
            teacher,
            CHOICE.criterion,
            cut(**changes).training,
            update_while_ranking,
            hard_label_objective,
            run_of(data),
        )
        assert isinstance(found, Importance)
        return torch.cat(found.heads + found.ffn_units)

    plain = ranking()
    assert plain.shape == (3 * (4 + 32),)
    assert (plain > 0).all()
    # No dropout, so the order of the mini-batches is all that a seed could change: the rows that
    # share a mini-batch differ, their number and the weights do not.
    whole = cut().training
    one = {"batch_size": 24}
    a = ranking(training=replace(whole, seed=1, **one))
    b = ranking(training=replace(whole, seed=2, **one))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    updated = ranking(update_while_ranking=True)
    assert not torch.allclose(updated, plain, rtol=0.01)
    # In one mini-batch no gradient follows an update, and the weights that count are untouched.
    assert torch.equal(
        ranking(training=replace(whole, **one), update_while_ranking=True),
        ranking(training=replace(whole, **one)),
    )


def test_ranking_draws_nothing_from_the_global_random_state(
    teacher, tiny, cut, rows, run_of, placement, distillation
):
    source, data = tiny(seed=1, num_hidden_layers=3), rows(24)
    noisy = distillation(hidden=False, teacher_dropout=True)
    objective = one_step.distillation_objective(with_dropout(teacher, 0.3), noisy, placement)

    def ranking():
        before = torch.get_rng_state()
        found = rank(
            source,
            CHOICE.criterion,
            cut().training,
            False,
            objective,
            run_of(data),
        )
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(7)
        return torch.cat(found.heads + found.ffn_units)

    assert torch.equal(ranking(), ranking())


def test_requests_that_cannot_be_met_are_named(call, teacher, width, cut, training, scoring):
    for settings, message in (
        (width(keep_heads=5), r"keep_heads must be in \[1, 4\].*got 5"),
        (width(ffn_units=33), r"ffn_units must be in \[1, 32\].*got 33"),
        (width(embedding_rank=17), r"embedding_rank must be in \[1, 16\].*got 17"),
        (width(start_layers=(1, 3)), r"layers must be ascending and in \[0, 2\], got \[1, 3\]"),
        (width(prune_fraction=0), r"prune_fraction must be in \(0, 1\], got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call(prune_width, teacher, settings=settings)

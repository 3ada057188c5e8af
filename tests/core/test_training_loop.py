"""The training loop: reproducible, pure, and true to its prune events."""

import math
from dataclasses import replace

import pytest
import torch
from small_trainings import pruning

from rosita_core.compression.schedule import PruneEvent, at_equal_distances, width_targets
from rosita_core.distillation.objective import distillation_objective
from rosita_core.measuring.score import predict_logits, scorer
from rosita_core.model.checkpoint import shape_of, with_dropout
from rosita_core.model.shape import narrowed, shallower
from rosita_core.training.hard_labels import hard_label_objective
from rosita_core.training.loop import total_steps, train

HEADS, UNITS = (4, 4), (8, 8)


@pytest.fixture
def run(run_of, training):
    """Train with hard labels; returns what came out and what was reported."""

    def start(
        model,
        data,
        score=None,
        events=(),
        objective=hard_label_objective,
        reset_optimizer=False,
        hooks=(),
        **changes,
    ):
        reports = []
        trained = train(
            model,
            training(**changes),
            objective,
            run_of(data, report=reports.append),
            score or (lambda _: {"score": 0.5}),
            hooks or pruning(events, reset_optimizer),
        )
        return trained, reports

    return start


def scores(values):
    """A score that follows a script, one value per evaluation."""
    script = iter(values)
    return lambda _: {"score": next(script)}


def test_same_seed_same_bits_other_seed_other_bits(sized, rows, run, same_weights):
    model, data = sized(HEADS, UNITS, hidden_dropout_prob=0.2), rows(30)
    first = run(model, data)[0].model
    torch.manual_seed(99)
    torch.rand(3)
    assert same_weights(run(model, data)[0].model, first)
    assert not same_weights(run(model, data, seed=8)[0].model, first)


def test_neither_the_model_nor_the_random_state_changes(sized, rows, run, snapshot):
    model = sized(HEADS, UNITS)
    before, state = snapshot(model), torch.get_rng_state()
    target = narrowed(shape_of(model.config), 2, 5, 6)
    trained, _ = run(model, rows(30), events=(PruneEvent(3, target),), keep_best=True)
    assert snapshot.unchanged(model, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert not trained.model.training


RATES = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2, "classifier_dropout": 0.1}
QUIET = dict.fromkeys(RATES, 0.0)


@pytest.fixture
def heard():
    """An objective that notes, step by step, the rates of the model and whether they are felt."""
    steps = []

    def objective(model, batch):
        part = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
        felt = not torch.equal(model(*part).logits, model(*part).logits)
        inside = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
        inside |= {layer.attention.self.dropout for layer in model.bert.encoder.layer}
        rates = {name: getattr(model.config, name) for name in RATES}
        assert model.training
        assert inside == set(rates.values())
        assert felt == any(inside)
        steps.append(rates)
        return hard_label_objective(model, batch)

    objective.steps = steps
    return objective


@pytest.mark.parametrize(("dropout", "after"), [(0.0, QUIET), (0.4, dict.fromkeys(RATES, 0.4))])
@pytest.mark.parametrize("by", ["width", "depth"])
def test_the_model_keeps_its_own_dropout_until_the_last_prune(
    sized, rows, run, heard, by, dropout, after
):
    """Between two prunes, too: a student that still equals its teacher has no other gradient."""
    model = sized((4, 4, 4), (8, 8, 8), **RATES)
    shape = shape_of(model.config)
    targets = [narrowed(shape, 3, 6, 9), narrowed(shape, 2, 4, 6)]
    if by == "depth":
        targets = [shallower(shape, 2), shallower(shape, 1)]
    events = tuple(map(PruneEvent, (2, 5), targets))
    # An evaluation after every step: it must not leave the model in eval mode.
    changes = {"dropout": dropout, "evaluations_per_epoch": 8}
    run(model, rows(30), events=events, objective=heard, **changes)
    assert heard.steps == [RATES] * 5 + [after] * 3


@pytest.mark.parametrize(("dropout", "expected"), [(None, RATES), (0.0, QUIET)])
def test_without_prunes_dropout_is_what_the_settings_say(
    sized, rows, run, heard, dropout, expected
):
    run(sized(HEADS, UNITS, **RATES), rows(30), objective=heard, dropout=dropout)
    assert heard.steps == [expected] * 8


def test_no_dropout_in_the_settings_leaves_the_models_own_after_prunes(sized, rows, run, heard):
    model = sized(HEADS, UNITS, **RATES)
    events = (PruneEvent(2, narrowed(shape_of(model.config), 2, 4, 6)),)
    run(model, rows(30), events=events, objective=heard, dropout=None)
    assert heard.steps == [RATES] * 8


def test_it_learns(sized, rows, run, scoring, framing, placement):
    data, held_out = rows(300), rows(80, seed=1)
    score = scorer(held_out, scoring(), framing, placement)
    model = sized(HEADS, UNITS, initializer_range=0.1)
    trained, reports = run(
        model, data, score, epochs=6, keep_best=True, batch_size=8, learning_rate=3e-3
    )
    assert score(model)["score"] < 0.8
    assert trained.best_score > 0.95
    assert score(trained.model)["score"] == trained.best_score
    losses = [report.metrics["train/loss"] for report in reports]
    assert losses[-1] < 0.5 * losses[0]


def test_regression_learns(sized, rows, run, framing, placement):
    data = rows(200, regression=True)
    model = sized(HEADS, UNITS, num_labels=1, problem_type="regression", initializer_range=0.1)
    trained, _ = run(model, data, epochs=6, batch_size=8, learning_rate=3e-3)
    found = predict_logits(trained.model, data, 8, 16, framing, placement)[:, 0]
    assert ((found - data.labels) ** 2).mean() < 0.5 * data.labels.var()


def test_two_half_batches_are_one_whole_batch(sized, rows, run):
    data = rows(8, length=6)
    model = with_dropout(sized(HEADS, UNITS), 0.0)
    # One sort pool: the halves of a batch are the same rows in both runs as lengths are equal.
    whole = run(model, data, batch_size=8, clip_norm=1e9, bias_correction=False)[0]
    halves = run(model, data, batch_size=4, accumulate=2, clip_norm=1e9, bias_correction=False)[0]
    assert whole.steps == halves.steps == 1
    moved = 0.0
    start = dict(model.named_parameters())
    for (name, a), b in zip(whole.model.named_parameters(), halves.model.parameters(), strict=True):
        if name.endswith("key.bias"):  # its gradient is zero but for rounding
            continue
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-4)
        moved = max(moved, (a - start[name]).abs().max().item())
    assert moved > 0.01


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("rank", [None, 6])
def test_a_prune_that_keeps_everything_changes_no_bit(
    sized, rows, run, same_weights, bias_correction, rank
):
    model, data = sized(HEADS, UNITS, rank), rows(30)
    events = (PruneEvent(2, shape_of(model.config)), PruneEvent(5, shape_of(model.config)))
    plain, _ = run(model, data, bias_correction=bias_correction)
    pruned, _ = run(model, data, bias_correction=bias_correction, events=events)
    assert same_weights(pruned.model, plain.model)
    reset, _ = run(
        model, data, bias_correction=bias_correction, events=events, reset_optimizer=True
    )
    assert not same_weights(reset.model, plain.model)


def test_width_events_reach_their_targets_in_time(sized, rows, run):
    model, data = sized(HEADS, UNITS), rows(30)
    targets = width_targets(shape_of(model.config), 1, 3, 5, 3)
    events = at_equal_distances(targets, 8, 0.9)
    trained, reports = run(model, data, events=events, evaluations_per_epoch=8)
    assert shape_of(trained.model.config) == targets[-1]
    assert trained.model.num_parameters() == reports[-1].metrics["shape/params"]
    shapes = {report.step: report.shape for report in reports}
    for event in events:
        assert shapes[event.step] == str(event.shape)
        assert shapes[event.step] != shapes.get(event.step - 1)
    assert [r.step for r in reports if r.message] == [event.step for event in events]
    assert reports[[r.step for r in reports].index(events[0].step)].message == (
        f"pruned {shape_of(model.config)} -> {targets[0]}"
    )


def test_depth_events_remove_the_top(sized, rows, run, distillation, placement):
    model = sized((4, 3, 2), (8, 7, 6))
    events = (PruneEvent(2, shallower(shape_of(model.config), 2)),)
    objective = distillation_objective(model, distillation(), placement)
    trained, reports = run(model, rows(30), events=events, objective=objective)
    assert shape_of(trained.model.config).layer_heads == (4, 3)
    assert {"train/loss", "train/loss_hidden", "train/loss_prediction"} <= set(reports[-1].metrics)


def test_importance_counts_gradients_since_the_last_prune(sized, rows, run):
    model, data = sized(HEADS, UNITS), rows(40)
    shape = shape_of(model.config)
    early, late = [0, 1, 2, 3], [4, 5, 6, 7]
    calls = []

    def objective(student, batch):
        calls.append(len(batch.labels))
        used, scale = (early, 100.0) if len(calls) <= 2 else (late, 1.0)
        weight = student.bert.encoder.layer[0].intermediate.dense.weight
        rest = sum(p.square().sum() for p in student.parameters())
        return {"loss": scale * weight[used].abs().sum() + 1e-6 * rest}

    events = (PruneEvent(2, shape), PruneEvent(4, narrowed(shape, 4, 4, 16)))
    # The rate is zero, so the rows that stay are those of the start, and the ranking is all.
    trained, _ = run(model, data, events=events, objective=objective, learning_rate=0.0, epochs=0.4)
    weight = trained.model.bert.encoder.layer[0].intermediate.dense.weight
    assert torch.equal(weight, model.bert.encoder.layer[0].intermediate.dense.weight[late])
    calls.clear()
    trained, _ = run(
        model, data, events=events[1:], objective=objective, learning_rate=0.0, epochs=0.4
    )
    weight = trained.model.bert.encoder.layer[0].intermediate.dense.weight
    assert torch.equal(weight, model.bert.encoder.layer[0].intermediate.dense.weight[early])


def test_the_best_score_counts_only_after_pruning(sized, rows, run):
    model, data = sized(HEADS, UNITS), rows(32)
    target = narrowed(shape_of(model.config), 2, 4, 8)
    trained, reports = run(
        model,
        data,
        scores([0.9, 0.9, 0.4, 0.6, 0.5, 0.6, 0.3, 0.2]),
        events=(PruneEvent(3, target),),
        evaluations_per_epoch=8,
        keep_best=True,
    )
    assert (trained.best_step, trained.best_score, trained.steps) == (4, 0.6, 8)
    assert shape_of(trained.model.config) == target
    assert [report.metrics["dev/score"] for report in reports][:2] == [0.9, 0.9]


def test_the_best_weights_are_those_of_their_step(sized, rows, run, same_weights):
    model, data = sized(HEADS, UNITS), rows(32)
    script = [0.1, 0.2, 0.8, 0.3, 0.4, 0.5, 0.6, 0.7]
    best, _ = run(model, data, scores(script), evaluations_per_epoch=8, keep_best=True)
    third, _ = run(model, data, epochs=3 / 8)
    assert best.best_step == third.steps == 3
    assert same_weights(best.model, third.model)
    last, _ = run(model, data, scores(script), evaluations_per_epoch=8)
    assert (last.best_step, last.best_score) == (8, 0.7)
    assert same_weights(last.model, run(model, data)[0].model)


@pytest.mark.parametrize(
    ("said", "best"),
    [
        # The highest correlation is one of answers that hardly vary yet.
        ([(0.9, 0.1), (-0.2, -0.2), (0.8, 0.8), (0.95, 0.2)], 3),
        ([(0.9, 0.1), (0.8, 0.2), (0.7, 0.3), (0.6, 0.4)], 4),
    ],
)
def test_numbers_are_chosen_by_more_than_their_score(sized, rows, run, said, best):
    script = iter({"score": score, "choice": choice} for score, choice in said)
    chosen, reports = run(
        sized(HEADS, UNITS),
        rows(32),
        lambda _: next(script),
        evaluations_per_epoch=4,
        keep_best=True,
    )
    told = [report.metrics for report in reports if "dev/score" in report.metrics]
    assert [(one["dev/score"], one["dev/choice"]) for one in told] == said
    steps = [report.step for report in reports if "dev/score" in report.metrics]
    assert (chosen.best_step, chosen.best_score) == (steps[best - 1], said[best - 1][0])


@pytest.mark.parametrize("keep_best", [True, False])
def test_patience_stops(sized, rows, run, keep_best):
    model, data = sized(HEADS, UNITS), rows(32)
    script = [0.1, 0.5, 0.4, 0.5, 0.3, 0.6, *[0.6] * 20]
    trained, reports = run(
        model,
        data,
        scores(script),
        epochs=3,
        evaluations_per_epoch=8,
        patience=0.5,
        keep_best=keep_best,
    )
    # Half an epoch is 4 steps: 0.6 at step 6 comes in time, and nothing after it.
    assert trained.steps == 10
    assert reports[-1].step == 10
    assert trained.best_step == (6 if keep_best else 10)


def test_patience_waits_for_pruning(sized, rows, run):
    model, data = sized(HEADS, UNITS), rows(32)
    events = (PruneEvent(12, narrowed(shape_of(model.config), 2, 4, 8)),)
    trained, _ = run(
        model, data, events=events, epochs=3, evaluations_per_epoch=8, patience=0.5, keep_best=True
    )
    assert trained.steps == 16


def test_steps_of_fractional_epochs(sized, rows, run, training):
    model, data = sized(HEADS, UNITS), rows(30)
    for epochs, accumulate, expected in ((1, 1, 8), (2.5, 1, 20), (0.25, 1, 2), (1, 3, 3)):
        assert total_steps(30, training(epochs=epochs, accumulate=accumulate)) == expected
    assert total_steps(30, training(epochs=0.001)) == 1
    assert total_steps(30, training(drop_last=True)) == 7
    trained, reports = run(model, data, epochs=2.5)
    assert trained.steps == 20
    assert reports[-1].step == 20
    assert run(model, data, epochs=1, drop_last=True)[0].steps == 7


def test_every_row_is_seen_once_per_epoch(sized, rows, run):
    data = rows(30)
    seen = []

    def objective(model, batch):
        seen.extend(
            tuple(ids[m.bool()].tolist())
            for ids, m in zip(batch.input_ids, batch.attention_mask, strict=True)
        )
        return hard_label_objective(model, batch)

    run(sized(HEADS, UNITS), data, objective=objective, epochs=2)
    expected = sorted((2, *data.first(row).tolist(), 3) for row in range(30))
    assert sorted(seen[:30]) == sorted(seen[30:]) == expected
    assert seen[:30] != seen[30:]


def test_what_is_reported(sized, rows, run):
    data = rows(64)
    model = sized(HEADS, UNITS)
    _, reports = run(
        model, data, epochs=2.1, evaluations_per_epoch=2, schedule="linear", warmup=0.1
    )
    steps = [report.step for report in reports]
    assert steps == sorted(set(steps))
    assert steps[-1] == reports[-1].total_steps == 34
    assert {8, 16, 24, 32, 34} == {r.step for r in reports if "dev/score" in r.metrics}
    for report in reports:
        assert math.isfinite(report.metrics["train/loss"])
        assert report.metrics["train/examples_per_second"] > 0
        assert 0 < report.metrics["train/lr"] <= 1e-2
        assert report.metrics["shape/params"] == model.num_parameters()
    rates = [report.metrics["train/lr"] for report in reports]
    assert rates[-1] == min(rates[3:]) < 1e-3


def test_the_reported_loss_is_the_mean_since_the_last_report(sized, rows, run):
    losses = []

    def objective(model, batch):
        found = hard_label_objective(model, batch)
        losses.append(found["loss"].item())
        return found

    _, reports = run(sized(HEADS, UNITS), rows(60), objective=objective, epochs=2)
    start = 0
    for report in reports:
        mean = sum(losses[start : report.step]) / (report.step - start)
        assert report.metrics["train/loss"] == pytest.approx(mean, rel=1e-5)
        start = report.step
    assert start == len(losses) == 30


def test_the_authors_clipping_padding_and_optimizer_change_the_result(
    sized, rows, run, same_weights
):
    model, data = sized(HEADS, UNITS), rows(30)
    plain = run(model, data)[0].model
    assert not same_weights(run(model, data, clip_per_tensor=True)[0].model, plain)
    assert not same_weights(run(model, data, bias_correction=False)[0].model, plain)
    widths = set()

    def objective(student, batch):
        widths.add(batch.input_ids.shape[1])
        return hard_label_objective(student, batch)

    run(model, data, objective=objective, pad_to_max_length=True)
    assert widths == {16}
    widths.clear()
    run(model, data, objective=objective)
    assert len(widths) > 1


def test_bf16_autocast_keeps_float32_weights(sized, rows, run_of, training, placement):
    model = sized(HEADS, UNITS)
    given = run_of(rows(12), placement=replace(placement, precision="bf16"))
    trained = train(model, training(), hard_label_objective, given, lambda _: {"score": 0.0})
    assert {p.dtype for p in trained.model.parameters()} == {torch.float32}
    assert all(torch.isfinite(p).all() for p in trained.model.parameters())


def test_training_needs_an_epoch(sized, rows, run):
    with pytest.raises(ValueError, match="epochs must be above 0 to train, got 0"):
        run(sized(HEADS, UNITS), rows(4), epochs=0)


def test_an_event_after_the_end_is_an_error(sized, rows, run):
    model = sized(HEADS, UNITS)
    with pytest.raises(ValueError, match="prune events must end by step 8, got one at 9"):
        run(model, rows(30), events=(PruneEvent(9, shape_of(model.config)),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": -1}, "epochs must be at least 0, got -1"),
        ({"epochs": float("nan")}, "epochs must be at least 0, got nan"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"max_length": 2}, "max_length must be at least 3, got 2"),
        ({"learning_rate": -1.0}, "learning_rate must be at least 0, got -1.0"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
        ({"clip_norm": 0.0}, "clip_norm must be above 0, got 0.0"),
        ({"evaluations_per_epoch": 0}, "evaluations_per_epoch must be above 0, got 0"),
        ({"schedule": "cosine"}, "schedule must be one of .*, got 'cosine'"),
        ({"warmup": 1.5}, r"warmup must be in \[0, 1\], got 1.5"),
        ({"patience": 0}, "patience must be above 0 epochs, got 0"),
    ],
)
def test_settings_out_of_bounds_are_named(training, change, message):
    with pytest.raises(ValueError, match=message):
        training(**change)


def test_predicting_in_train_mode_is_an_error(sized, rows, framing, placement):
    model = sized(HEADS, UNITS).train()
    with pytest.raises(ValueError, match="eval mode to predict, got train mode"):
        predict_logits(model, rows(3), 2, 16, framing, placement)


@pytest.mark.parametrize("number", [math.inf, math.nan])
def test_a_loss_that_is_no_number_ends_a_training(sized, rows, run, number):
    """Its weights would be none, and the best class of such answers is the first."""
    calls = iter(range(100))

    def objective(model, batch):
        losses = hard_label_objective(model, batch)
        return {"loss": losses["loss"] * number} if next(calls) == 3 else losses

    with pytest.raises(ValueError, match=r"^train/loss must stay a finite number .* by step 4$"):
        run(sized(HEADS, UNITS), rows(30), objective=objective)


def test_answers_that_are_no_numbers_have_no_score(sized, rows, scoring, framing, placement):
    model, data = sized(HEADS, UNITS), rows(6)
    with torch.no_grad():
        model.classifier.weight[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"on the 6 selection rows, got others for 6 of"):
        scorer(data, scoring(), framing, placement)(model.eval())

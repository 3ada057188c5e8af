"""A kernel that was stopped anywhere ends with the bits of one that was not."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pytest
import torch
from interrupted import Stopped, StoppingAt
from small_trainings import CHOICE, pruning

from rosita_core.augmentation import shards as shards_module
from rosita_core.augmentation.augment import AugmentSettings
from rosita_core.augmentation.shards import ROWS_IN_MEMORY, Shards
from rosita_core.augmentation.vectors import WordVectors
from rosita_core.compression.schedule import PruneEvent, at_equal_distances, width_targets
from rosita_core.distillation.objective import distillation_objective
from rosita_core.model.checkpoint import shape_of
from rosita_core.stages.augment import AugmentStageSettings, augment_data
from rosita_core.stages.one_step import OneStepSettings, prune_one_step
from rosita_core.training.checkpoints import NoCheckpoints, read_state
from rosita_core.training.hard_labels import hard_label_objective
from rosita_core.training.loop import train


def finish(kernel, checkpoints):
    """Call `kernel(checkpoints)` again and again until it is not stopped any more."""
    stops = 0
    while True:
        try:
            return kernel(checkpoints), stops
        except Stopped:
            stops += 1


@pytest.fixture
def training_run(sized, rows, run_of, training, placement, distillation):
    """A distillation of 16 steps that prunes at 3, 6 and 9 and chooses its best weights."""
    model = sized((4, 4), (8, 8), hidden_dropout_prob=0.2)
    data = rows(30)
    targets = width_targets(shape_of(model.config), 1, 3, 5, 3)
    events = at_equal_distances(targets, 16, 0.6)

    def run(checkpoints, changes):
        changes = dict(changes)
        hooks = pruning(events, changes.pop("reset_optimizer", False))
        scores = iter((0.1, 0.5, 0.4, 0.3) * 8)
        reports = []
        trained = train(
            model,
            training(epochs=2, keep_best=True, dropout=0.0, **changes),
            distillation_objective(model, distillation(), placement),
            run_of(data, report=reports.append, checkpoints=checkpoints),
            lambda _: {"score": next(scores)},
            hooks,
        )
        return trained, reports

    return run


@pytest.mark.parametrize("stops", [[1], [2, 3], [5, 6, 7], [9], [10, 14], list(range(1, 16))])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bias_correction": False, "clip_per_tensor": True},
        {"accumulate": 2, "batch_size": 2, "reset_optimizer": True, "warmup": 0.3},
        {"schedule": "linear", "drop_last": True},
    ],
)
def test_training_and_iterative_pruning(training_run, same_weights, tmp_path, stops, changes):
    # The script of scores starts anew with each call, so it is read at the end only.
    changes = changes | {"evaluations_per_epoch": 0.5}
    whole, _ = training_run(NoCheckpoints(), changes)
    (resumed, _), stopped = finish(
        lambda checkpoints: training_run(checkpoints, changes), StoppingAt(tmp_path, stops)
    )
    steps = whole.steps
    assert stopped == len([stop for stop in stops if stop < steps])
    assert same_weights(resumed.model, whole.model)
    assert resumed.model.config.to_dict() == whole.model.config.to_dict()
    assert (resumed.steps, resumed.best_step) == (whole.steps, whole.best_step)


@pytest.mark.parametrize("numbers", [False, True])
def test_the_best_weights_and_patience_survive(
    sized, rows, run_of, training, same_weights, tmp_path, numbers
):
    model, data = sized((4, 4), (8, 8)), rows(30)
    # As many epochs as it likes, stopped by patience: the best score comes at step 4.
    settings = training(epochs=4, keep_best=True, evaluations_per_epoch=4, patience=1.0)

    def run(checkpoints):
        folder = checkpoints.latest()
        # An evaluation every second step; the second of them is the best, whoever asks.
        number = iter(range(1 if folder is None else read_state(folder)["step"] // 2 + 1, 100))
        return train(
            model,
            settings,
            hard_label_objective,
            run_of(data, checkpoints=checkpoints),
            lambda _: said(next(number) == 2),
        )

    def said(best):
        # Of numbers the choice decides, whatever the score says.
        return {"score": 0.3, "choice": float(best)} if numbers else {"score": 1.0 if best else 0.5}

    whole = run(NoCheckpoints())
    assert (whole.best_step, whole.steps) == (4, 12)
    resumed, stopped = finish(run, StoppingAt(tmp_path, [3, 5, 11]))
    assert stopped == 3
    best_score = 0.3 if numbers else 1.0
    assert (resumed.best_step, resumed.best_score, resumed.steps) == (4, best_score, 12)
    assert same_weights(resumed.model, whole.model)


def test_what_is_reported_after_a_stop_is_what_would_have_been(training_run, tmp_path):
    changes = {"evaluations_per_epoch": 0.5}
    _, whole = training_run(NoCheckpoints(), changes)
    checkpoints = StoppingAt(tmp_path, [7])
    with pytest.raises(Stopped):
        training_run(checkpoints, changes)
    _, resumed = training_run(checkpoints, changes)
    assert resumed[0].message == "goes on from step 7"
    assert resumed[0].step == 7
    expected = {r.step: r.metrics["train/loss"] for r in whole if r.step > 7}
    assert {r.step: r.metrics["train/loss"] for r in resumed[1:]} == expected


def test_a_checkpoint_after_the_first_factorization_keeps_both_factors_moments(
    sized, rows, run_of, training, same_weights, tmp_path
):
    model, data = sized((4, 4), (8, 8)), rows(30)
    target = replace(shape_of(model.config), embedding_rank=6)

    def run(checkpoints):
        return train(
            model,
            training(learning_rate=0.05),
            hard_label_objective,
            run_of(data, checkpoints=checkpoints),
            lambda _: {"score": 0.5},
            pruning((PruneEvent(2, target),)),
        )

    resumed, _ = finish(run, StoppingAt(tmp_path, [2, 3]))
    assert same_weights(resumed.model, run(NoCheckpoints()).model)


@pytest.mark.parametrize("stops", [[1], [3], [5], [1, 2, 3, 4, 5], [5, 2, 4], [1] * 10])
@pytest.mark.parametrize("update_while_ranking", [True, False])
def test_one_step_pruning(
    tiny,
    rows,
    run_of,
    training,
    distillation,
    scoring,
    same_weights,
    tmp_path,
    stops,
    update_while_ranking,
):
    teacher, source = tiny(num_hidden_layers=3), tiny(seed=1, num_hidden_layers=3)
    data, selection = rows(24), rows(8, seed=1)
    settings = OneStepSettings(
        start_layers=(0, 2),
        keep_heads=2,
        ffn_units=10,
        embedding_rank=6,
        criterion=CHOICE.criterion,
        allocation=CHOICE.allocation,
        ranking=distillation(hidden=False, teacher_dropout=True),
        update_while_ranking=update_while_ranking,
        training=training(keep_best=True, evaluations_per_epoch=2),
        distillation=distillation(teacher_dropout=True),
        scoring=scoring(),
    )

    reports = []

    def run(checkpoints):
        given = run_of(data, selection, reports.append, checkpoints)
        return prune_one_step(source, teacher, teacher, data, settings, given)

    whole = run(NoCheckpoints())
    # Batches of the ranking are told from the steps of the training after it.
    assert [event.message for event in reports if event.phase] == ["ranking heads and FFN units"]
    resumed, stopped = finish(run, StoppingAt(tmp_path, stops))
    assert stopped > 0
    assert same_weights(resumed.model, whole.model)
    assert resumed.best_score == whole.best_score
    assert resumed.documents == whole.documents
    assert len(whole.documents["prunes"]) == 1


@pytest.mark.parametrize("in_memory", [1, 1_000, ROWS_IN_MEMORY])
@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("stops", [[1], [512], [600], [1, 600, 1200], [1300], [600, 1300, 1300]])
def test_augmentation(tokenizer, tmp_path, monkeypatch, stops, links, in_memory):
    monkeypatch.setattr(shards_module, "ROWS_IN_MEMORY", in_memory)
    if not links:

        def no_links(source, target):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

        monkeypatch.setattr(os, "link", no_links)
    words = ["good", "bad", "wa", "wb", "wc", "wd"]
    matrix = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    vectors = WordVectors(words, torch.nn.functional.normalize(matrix).numpy())
    frame = pd.DataFrame(
        {
            "text_a": [f"{words[i % 6]} {words[i % 5]} {words[i % 4]} the" for i in range(1300)],
            "label": [i % 2 for i in range(1300)],
        }
    )
    settings = AugmentStageSettings(
        variants=AugmentSettings(3, 0.5, 3, 1),
        vocabulary=6,
        mlm_digest=None,
        vectors_digest=None,
        mlm_batch_size=1,
        mlm=None,
        vectors=None,
    )
    made = iter(range(100))

    def run(checkpoints):
        folder = tmp_path / f"out-{next(made)}"
        folder.mkdir()
        facts = augment_data(
            frame, settings, None, vectors, tokenizer, folder, lambda _: None, checkpoints
        )
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        return facts, files

    whole = run(NoCheckpoints())
    checkpoints = StoppingAt(tmp_path / "checkpoints", stops)
    resumed, stopped = finish(run, checkpoints)
    assert stopped == len(stops)
    assert resumed == whole
    # While word pieces are cut nothing is new, and stopping then writes nothing.
    assert len(checkpoints.saved) == len(set(stops))


def test_rows_that_no_checkpoint_takes_leave_the_memory(tmp_path):
    rows, batches = 1_000, 200
    a_row = 100 + 4 + 8  # a text, its offset, and the number of its original

    def made():
        for number in range(batches):
            texts = pa.array([f"{number:0100d}"] * rows)
            origins = pa.array(range(number * rows, (number + 1) * rows), pa.int64())
            yield pa.RecordBatch.from_arrays([texts, origins], ["text_a", "origin"])

    before, most = pa.total_allocated_bytes(), 0
    shards = Shards(NoCheckpoints(), rows * batches, tmp_path)
    for _ in shards.kept(made()):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 1.5 * (ROWS_IN_MEMORY + 2 * rows) * a_row < rows * batches * a_row
    assert shards.done == rows * batches


def test_examples_from_before_a_stop_have_no_time_and_do_not_count(
    sized, rows, run_of, training, tmp_path, monkeypatch
):
    """By a clock on which a batch of 4 takes a second."""
    model, data, seconds = sized((4, 4), (8, 8)), rows(32), [0.0]
    monkeypatch.setattr("rosita_core.training.loop.time.perf_counter", lambda: seconds[0])
    settings = training(epochs=5, evaluations_per_epoch=0.2)
    reports = []

    def objective(model, batch):
        seconds[0] += 1
        return hard_label_objective(model, batch)

    def run(checkpoints):
        rows_of = run_of(data, report=reports.append, checkpoints=checkpoints)
        return train(model, settings, objective, rows_of, lambda _: {"score": 0.5})

    # Reports come every fourth step.
    finish(run, StoppingAt(tmp_path, [7, 18]))
    rates = [r.metrics["train/examples_per_second"] for r in reports if r.metrics]
    assert rates == [4.0] * 10

"""What a teacher said once is what it would say again: of the right rows, to 16 bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from interrupted import Stopped, StoppingAt
from small_trainings import pruning

from rosita_core.compression.schedule import at_equal_distances, width_targets
from rosita_core.distillation.kept import KeptOutputs, kept_bytes, read_kept
from rosita_core.distillation.layer_mapping import map_layers
from rosita_core.distillation.objective import distillation_objective, frozen, teacher_outputs
from rosita_core.model.checkpoint import shape_of
from rosita_core.stages import targets
from rosita_core.stages.depth import DepthSettings, prune_depth
from rosita_core.stages.targets import TargetsSettings, framed_lengths, keep_targets
from rosita_core.training.batches import collate, shuffled_batches
from rosita_core.training.checkpoints import NoCheckpoints
from rosita_core.training.group import Group
from rosita_core.training.loop import train
from rosita_core.training.placement import Placement

# The largest state of a tiny model is below 8, and 16 bits keep 11 digits of it.
ROUNDING = 8 * 2**-12
SETTINGS = TargetsSettings(states=(0, 2), most_gb=None, max_length=16, relu_teacher_head=False)


@pytest.fixture
def teacher(sized):
    return sized((4, 4), (8, 8))


@pytest.fixture(autouse=True)
def many_files(monkeypatch):
    """A few rows a file, and a few of them at a time, as in a large training."""
    monkeypatch.setattr(targets, "TOKENS_PER_FILE", 60)
    monkeypatch.setattr(targets, "ROWS_PER_FILE", 10)
    monkeypatch.setattr(targets, "ROWS_PER_BATCH", 3)


@pytest.fixture
def keep(framing, placement, tmp_path):
    """A factory: the folder of what a teacher says of rows, and what the kernel told."""
    made = iter(range(100))

    def run(teacher, data, settings=SETTINGS, checkpoints=None):
        folder = tmp_path / f"kept-{next(made)}"
        folder.mkdir()
        reports = []
        facts = keep_targets(
            *(teacher, data, framing, settings, placement, folder),
            *(reports.append, checkpoints or NoCheckpoints()),
        )
        return folder, facts, reports

    return run


def check_outputs(kept, teacher, batch, states, relu_head=False):
    """What is kept of a batch is what the teacher says of it."""
    said, now = kept(batch), teacher_outputs(teacher, batch, relu_head, states=True)
    torch.testing.assert_close(said.logits, now.logits, rtol=0, atol=1e-5)
    assert len(said.states) == (len(now.states) if states else 0)
    tokens = batch.attention_mask.bool()
    for number, state in enumerate(said.states):
        if number not in states:
            assert state.numel() == 0
            continue
        torch.testing.assert_close(
            state[tokens].float(), now.states[number][tokens], rtol=0, atol=ROUNDING
        )
        assert not state[~tokens].any()


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("states", [(), (0, 2), (0, 1, 2)])
def test_a_batch_finds_its_rows_in_every_order(sized, rows, framing, keep, teacher, pair, states):
    # Some rows are longer than the 11 tokens that they are cut to.
    data = rows(61, pair=pair)
    settings = replace(SETTINGS, states=states, max_length=11)
    folder, _, _ = keep(teacher, data, settings)
    assert len(list(folder.glob("rows-*"))) > 5
    kept = read_kept(folder)
    seen = []
    for epoch in range(2):
        for some in shuffled_batches(data.lengths, 4, False, 7, epoch):
            batch = collate(data, some, 11, framing, epoch == 1)
            check_outputs(kept, teacher, batch, states)
            for rank in range(3):
                check_outputs(kept, teacher, Group(rank, 3).part(batch), states)
            seen += some.tolist()
    assert sorted(seen) == sorted([*range(61)] * 2)


def test_the_authors_head_is_kept_where_it_teaches(rows, framing, keep, teacher):
    data = rows(9)
    folder, _, _ = keep(teacher, data, replace(SETTINGS, relu_teacher_head=True))
    batch = collate(data, np.arange(9), 16, framing, False)
    check_outputs(read_kept(folder), teacher, batch, (0, 2), relu_head=True)
    own = teacher_outputs(teacher, batch, False, states=False).logits
    assert not torch.allclose(read_kept(folder)(batch).logits, own, atol=1e-3)


@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("relu_head", [True, False])
def test_a_frozen_teacher_says_the_same_bits(sized, rows, framing, relu_head, states):
    teacher = sized((4, 2), (8, 12), embedding_rank=3)
    batch = collate(rows(9), np.arange(9), 16, framing, False)
    bf16 = Placement("cpu", "bf16")
    own, held = (one.requires_grad_(False) for one in (teacher, frozen(teacher, bf16)))
    products = [m for m in held.modules() if isinstance(m, torch.nn.Linear)]
    assert {weight.dtype for m in products for weight in m.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in own.parameters()} == {torch.float32}
    with bf16.autocast():
        said, now = (teacher_outputs(one, batch, relu_head, states) for one in (own, held))
    pairs = zip((said.logits, *said.states), (now.logits, *now.states), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    exact = frozen(teacher, Placement("cpu", "fp32"))
    assert {weight.dtype for weight in exact.parameters()} == {torch.float32}


@pytest.fixture
def losses_of(run_of, training, distillation, placement):
    """The losses of every step of a distillation, and the model that it ends with."""

    def run(teacher, student, data, kept, hooks=(), hidden=True, **changes):
        reports = []
        objective = distillation_objective(teacher, distillation(hidden), placement, kept)
        settings = training(epochs=2, evaluations_per_epoch=8, learning_rate=1e-3, **changes)
        given = run_of(data, report=reports.append)
        trained = train(student, settings, objective, given, lambda _: {"score": 0.5}, hooks)
        names = ("train/loss", "train/loss_prediction", *["train/loss_hidden"][: int(hidden)])
        return [[r.metrics[name] for name in names] for r in reports], trained.model

    return run


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2, "batch_size": 2}])
@pytest.mark.parametrize("hidden", [True, False])
def test_the_losses_are_those_of_a_teacher_that_computes(
    sized, rows, keep, losses_of, teacher, changes, hidden
):
    student, data = sized((4, 4), (8, 8), seed=1), rows(30)
    events = at_equal_distances(width_targets(shape_of(student.config), 1, 3, 5, 3), 16, 0.6)
    states = (0, 1, 2) if hidden else ()
    folder, _, _ = keep(teacher, data, replace(SETTINGS, states=states))

    def run(kept):
        return losses_of(teacher, student, data, kept, pruning(events), hidden, **changes)

    (kept, _), (computed, _) = run(read_kept(folder)), run(None)
    assert len(kept) == len(computed) >= 15
    np.testing.assert_allclose(kept, computed, rtol=2e-3 if hidden else 1e-5)


def test_nothing_is_computed_of_a_teacher_that_is_kept(rows, keep, losses_of, teacher, sized):
    data = rows(30)
    kept = read_kept(keep(teacher, data, replace(SETTINGS, states=(0, 1, 2)))[0])
    broken = sized((4, 4), (8, 8), seed=5)
    student = sized((4, 4), (8, 8), seed=1)
    (by_name, _), (by_other, _) = (losses_of(t, student, data, kept) for t in (teacher, broken))
    assert by_name == by_other


def test_a_student_that_loses_layers_finds_the_states_of_every_depth(
    sized, rows, run_of, keep, training, distillation, scoring
):
    teacher, data = sized((4,) * 4, (8,) * 4), rows(30)
    settings = DepthSettings(
        2, 0.5, False, training(epochs=2, evaluations_per_epoch=8), distillation(), scoring()
    )
    states = tuple(sorted({s for depth in (2, 3, 4) for s in map_layers(4, depth)}))
    kept = read_kept(keep(teacher, data, replace(SETTINGS, states=states))[0])

    def losses(kept):
        reports = []
        trained = prune_depth(teacher, settings, run_of(data, report=reports.append), kept)
        assert shape_of(trained.model.config).layers == 2
        return [r.metrics["train/loss"] for r in reports]

    np.testing.assert_allclose(losses(kept), losses(None), rtol=1e-2)
    few = read_kept(keep(teacher, data, replace(SETTINGS, states=map_layers(4, 2)))[0])
    # States that are not there are missed, and not taken for others.
    with pytest.raises(RuntimeError, match="size"):
        losses(few)


@pytest.mark.parametrize("stops", [[1], [20, 40], [5] * 6])
def test_what_was_stopped_ends_with_the_same_bytes(rows, keep, teacher, tmp_path, stops):
    data = rows(50)
    whole, facts, _ = keep(teacher, data)
    checkpoints, stopped, done = StoppingAt(tmp_path / "saved", stops), 0, []
    while True:
        try:
            again, told, reports = keep(teacher, data, checkpoints=checkpoints)
            break
        except Stopped:
            stopped += 1
    done = [r.step for r in reports if r.message is None]
    assert stopped == len(stops)
    assert told == facts
    for path in whole.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()
    assert len(list(again.iterdir())) == len(list(whole.iterdir()))
    # What was there is not computed again, and not copied.
    saved = sorted(checkpoints.saved[-1].glob("rows-*"))
    assert len(done) == len(list(whole.glob("rows-*"))) - len(saved)
    assert all((again / path.name).samefile(path) for path in saved)


def test_what_is_too_large_is_not_kept(rows, framing, keep, teacher):
    data = rows(50)
    tokens = int(framed_lengths(data, framing, 16).sum())
    exact = kept_bytes(shape_of(teacher.config), 50, tokens, 2) / 1e9
    folder, facts, _ = keep(teacher, data, replace(SETTINGS, most_gb=exact))
    size = pytest.approx(exact * 1e3)
    assert facts == {"rows": 50.0, "needed_mb": size}
    held = [path.stat().st_size for path in folder.glob("rows-*")]
    # Beside it are 8 bytes a row, and the heads of files.
    assert 0 < sum(held) - exact * 1e9 < 8 * 50 + 400 * len(held)
    folder, facts, reports = keep(teacher, data, replace(SETTINGS, most_gb=exact * 0.999))
    assert facts == {"rows": 0.0, "needed_mb": size}
    assert [path.name for path in folder.iterdir()] == ["kept.json"]
    assert read_kept(folder) is None
    assert "nothing is kept" in reports[-1].message


@pytest.mark.parametrize("weight", [1e6, -1e6, float("nan")])
def test_states_that_16_bits_do_not_hold_or_that_are_no_numbers_are_refused(
    rows, keep, teacher, weight
):
    with torch.no_grad():
        teacher.bert.encoder.layer[1].output.LayerNorm.weight[0] = weight
    with pytest.raises(ValueError, match=r"kd\.cache must be none or predictions .* 65,504"):
        keep(teacher, rows(9))
    # Those below that layer are kept.
    keep(teacher, rows(9), replace(SETTINGS, states=(0,)))


def test_lengths_are_those_of_framed_rows(rows, framing):
    for pair in (False, True):
        data = rows(40, pair=pair)
        for most in (5, 11, 16, 40):
            framed = [
                len(framing.frame(data.first(row), data.second(row), most)[0]) for row in range(40)
            ]
            assert framed_lengths(data, framing, most).tolist() == framed


def test_reading_is_lazy_and_once(rows, framing, keep, teacher, monkeypatch):
    """A file is mapped, not read: what nobody asks for may be anything."""
    data = rows(50)
    folder, _, _ = keep(teacher, data)
    kept = read_kept(folder)
    assert isinstance(kept, KeptOutputs)
    batch = collate(data, np.arange(3), 16, framing, False)
    before = kept(batch)
    path = max(folder.glob("rows-*"))
    content = bytearray(path.read_bytes())
    content[-8:] = bytes(8)
    with path.open("r+b") as file:
        file.write(content)
    assert torch.equal(kept(batch).states[0], before.states[0])
    last = collate(data, np.array([49]), 16, framing, False)
    assert not kept(last).states[2][0, -1, -4:].any()


def test_logits_alone_are_kept_in_few_files(rows, keep, teacher, monkeypatch):
    """However long the texts are: a system maps so many files and no more."""
    monkeypatch.setattr(targets, "ROWS_PER_FILE", 20)
    folder, _, _ = keep(teacher, rows(50), replace(SETTINGS, states=()))
    assert len(list(folder.glob("rows-*"))) == 3

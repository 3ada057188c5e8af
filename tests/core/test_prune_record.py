"""What prunes record: true to the weights, in the numbering of the start, and kept by a stop."""

import json

import pytest
import torch
from interrupted import Stopped, StoppingAt
from small_trainings import pruning

from rosita_core.compression.prune_record import from_json, to_json
from rosita_core.compression.schedule import PruneEvent, at_equal_distances, width_targets
from rosita_core.model.checkpoint import shape_of, with_dropout
from rosita_core.training.checkpoints import NoCheckpoints
from rosita_core.training.hard_labels import hard_label_objective
from rosita_core.training.loop import train


def prunes_of(trained):
    return from_json(trained.documents["prunes"])


@pytest.fixture
def pruned(sized, rows, run_of, training):
    """A model cut from 4 heads to 2 in two prunes while it hardly learns."""
    model = with_dropout(sized((4, 4, 4), (8, 8, 8), 6), 0.0)
    data = rows(32)
    events = at_equal_distances(width_targets(shape_of(model.config), 2, 4, 5, 2), 8, 1.0)

    def run(checkpoints, events=events):
        return model, train(
            model,
            training(learning_rate=1e-12, weight_decay=0.0),
            hard_label_objective,
            run_of(data, checkpoints=checkpoints),
            lambda _: {"score": 0.5},
            pruning(events),
        )

    return run


def test_the_heads_that_are_recorded_are_those_whose_weights_are_left(pruned):
    model, trained = pruned(NoCheckpoints())
    assert [r.step for r in prunes_of(trained)] == [4, 8]
    assert [r.shape for r in prunes_of(trained)] == ["a3_l3_f6_e6", "a2_l3_f4_e5"]
    last = prunes_of(trained)[-1]
    before, after = model.state_dict(), trained.model.state_dict()
    assert last.layers == (0, 1, 2)
    for layer, heads in zip(last.layers, last.heads, strict=True):
        name = f"bert.encoder.layer.{layer}.attention.self.query.weight"
        rows = torch.cat([before[name][4 * head : 4 * head + 4] for head in heads])
        torch.testing.assert_close(after[name], rows, rtol=1e-4, atol=1e-6)


def test_a_later_prune_ranks_what_an_earlier_one_left(pruned):
    _, trained = pruned(NoCheckpoints())
    first, second = prunes_of(trained)
    assert all(heads == (0, 1, 2, 3) for heads in first.ranked_heads)
    assert second.ranked_heads == first.heads
    for record in prunes_of(trained):
        for names, scores, kept, share in zip(
            record.ranked_heads,
            record.head_importance,
            record.heads,
            record.ffn_importance_kept,
            strict=True,
        ):
            ordered = sorted(names, key=lambda name: -scores[names.index(name)])
            assert set(kept) == set(ordered[: len(kept)])
            assert 0.5 <= share <= 1


def test_layers_keep_their_numbers(pruned, sized):
    shape = shape_of(sized((4, 4, 4), (8, 8, 8), 6).config)
    events = (PruneEvent(2, width_targets(shape, 3, 8, 6, 1)[0]),)
    _, trained = pruned(NoCheckpoints(), events)
    assert prunes_of(trained)[0].layers == (0, 1, 2)
    assert [len(heads) for heads in prunes_of(trained)[0].heads] == [3, 3, 3]


@pytest.mark.parametrize("stop", [2, 5])
def test_a_stop_between_prunes_loses_no_record(pruned, tmp_path, stop):
    _, whole = pruned(NoCheckpoints())
    checkpoints = StoppingAt(tmp_path, [stop])
    with pytest.raises(Stopped):
        pruned(checkpoints)
    _, resumed = pruned(checkpoints)
    assert resumed.documents == whole.documents


def test_records_survive_json(pruned):
    _, trained = pruned(NoCheckpoints())
    records = prunes_of(trained)
    assert len(records) == 2
    assert to_json(from_json(json.loads(json.dumps(to_json(records))))) == to_json(records)
    assert from_json(json.loads(json.dumps(to_json(records)))) == records

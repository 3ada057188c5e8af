"""Random scores: decided by the seed and the shape, and by nothing of the model."""

import torch

from rosita_core.compression.criteria.random import Random


def scores(model, seed):
    criterion = Random(seed)
    return criterion.score(model, criterion.begin(model))


def test_the_seed_decides_and_the_weights_do_not(sized):
    first, other = sized((3, 2), (6, 9)), sized((3, 2), (6, 9), seed=1)
    assert all(map(torch.equal, scores(first, 7).heads, scores(other, 7).heads))
    assert all(map(torch.equal, scores(first, 7).ffn_units, scores(other, 7).ffn_units))
    assert not torch.equal(scores(first, 7).heads[0], scores(first, 8).heads[0])


def test_every_head_and_unit_has_a_score_of_its_own(sized):
    found = scores(sized((3, 2), (6, 9)), 7)
    assert [len(part) for part in (*found.heads, *found.ffn_units)] == [3, 2, 6, 9]
    drawn = torch.cat((*found.heads, *found.ffn_units))
    assert len(drawn.unique()) == len(drawn)
    assert drawn.min() >= 0 and drawn.max() < 1


def test_it_leaves_the_random_state_of_the_process_alone(sized):
    before = torch.random.get_rng_state()
    scores(sized((3, 2), (6, 9)), 7)
    assert torch.equal(torch.random.get_rng_state(), before)

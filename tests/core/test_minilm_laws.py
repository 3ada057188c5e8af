"""Laws of cutting at once, on the weights that the demo starts from, where they are installed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import qr
from test_measured_criteria import measured

from rosita_core.compression.allocation.tolerance import Tolerance
from rosita_core.compression.budgets.budget import Limit, purse_of
from rosita_core.compression.criteria.fisher import Fisher
from rosita_core.compression.criteria.pivots import Pivots, unit_pivots
from rosita_core.compression.ranked import importance_of, rearranged
from rosita_core.compression.repair.dense import Dense
from rosita_core.compression.repair.scale import Scale
from rosita_core.compression.repairing import repaired
from rosita_core.compression.surgery import prune
from rosita_core.compression.within_budget import kept_within
from rosita_core.model.checkpoint import copied, shape_of
from rosita_core.model.locate import locate
from rosita_core.model.pretrained import load_pretrained
from rosita_core.plug_ins import load
from rosita_core.training.batches import Batch

Global = load("compression.allocation", "global")


@pytest.fixture(scope="module")
def minilm():
    return load_pretrained(locate("minilm-l6"), 2, seed=0)


@pytest.fixture(scope="module")
def batches():
    random = torch.Generator().manual_seed(0)
    made = []
    for _ in range(3):
        ids = torch.randint(1000, 30000, (8, 14), generator=random)
        mask = (torch.arange(14) < torch.randint(6, 15, (8, 1), generator=random)).long()
        labels = torch.randint(0, 2, (8,), generator=random)
        made.append(Batch(ids * mask, mask, torch.zeros_like(ids), labels))
    return made


@pytest.fixture(scope="module")
def statistics(minilm, batches):
    return measured(minilm, batches)


def kept_at(minilm, statistics, share, criterion, allocation):
    shape = shape_of(minilm.config)
    limit = Limit("encoder", share, None, None)
    purse = purse_of(shape, limit, 14, None, (1, 8), True)
    return kept_within(allocation, shape, importance_of(criterion, minilm, statistics), purse)


@torch.no_grad()
def logits(model, batch):
    return model(batch.input_ids, batch.attention_mask, batch.token_type_ids).logits


@torch.no_grad()
def masked(model, kept):
    """A copy of the full model in which what `kept` does not name has no weight after it."""
    result = copied(model, "cpu")
    for layer, heads, units in zip(
        result.bert.encoder.layer, kept.heads, kept.ffn_units, strict=True
    ):
        gate = torch.zeros(len(layer.attention.self.query.bias) // 32)
        gate[heads] = 1
        layer.attention.output.dense.weight.mul_(gate.repeat_interleave(32))
        gate = torch.zeros(layer.output.dense.in_features)
        gate[units] = 1
        layer.output.dense.weight.mul_(gate)
    return result


def test_a_whole_budget_gives_the_teachers_logits(minilm, statistics, batches):
    kept = kept_at(minilm, statistics, 1.0, Fisher(), Global())
    assert torch.equal(logits(prune(minilm, kept), batches[0]), logits(minilm, batches[0]))


@pytest.mark.parametrize("share", [0.5, 0.3])
def test_the_pruned_model_is_the_masked_one(minilm, statistics, batches, share):
    kept = kept_at(minilm, statistics, share, Fisher(), Global())
    kept = rearranged(kept, statistics.loss)
    torch.testing.assert_close(
        logits(prune(minilm, kept), batches[0]),
        logits(masked(minilm, kept), batches[0]),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("repair", [Scale(), Dense(1e-3)], ids=["scale", "dense"])
def test_no_sub_layer_grows_worse_by_a_repair(minilm, statistics, batches, repair):
    kept = kept_at(minilm, statistics, 0.3, Pivots(), Tolerance())
    done = repaired(minilm, prune(minilm, kept), batches, repair, "cpu")
    assert len(done.fits) == 12
    assert all(fit.after <= fit.before * (1 + 1e-5) for fit in done.fits)
    assert sum(fit.after < 0.99 * fit.before for fit in done.fits) >= 10


def test_pivots_of_the_moments_are_those_of_the_activations(minilm, batches):
    layer = minilm.bert.encoder.layer[3]
    found = []
    hook = layer.output.dense.register_forward_pre_hook(lambda _, x: found.append(x[0]))
    for batch in batches:
        logits(minilm, batch)
    hook.remove()
    z = np.concatenate(
        [x[b.attention_mask.bool()].double().numpy() for x, b in zip(found, batches, strict=True)]
    )
    order = qr(z, mode="r", pivoting=True)[1]
    first = unit_pivots(torch.from_numpy(z.T @ z)).argsort(descending=True)[:64]
    assert first.tolist() == order[:64].tolist()


def test_heads_and_units_of_taylor_are_brought_to_one_scale(minilm, statistics):
    taylor = load("compression.criteria", "taylor")()
    ranking = importance_of(taylor, minilm, statistics)
    for scores in (ranking.heads, ranking.ffn_units):
        assert sum(float(part.sum()) for part in scores) == pytest.approx(1)
    without = importance_of(taylor, minilm, replace(statistics, loss=None))
    assert all(map(torch.equal, without.heads, ranking.heads))

"""Criteria that read statistics: what they are sums of, and what does not change them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import qr
from torch.nn import functional as F

from rosita_core.compression.calibration import Calibration
from rosita_core.compression.criteria.attribution import Attribution
from rosita_core.compression.criteria.fisher import Fisher
from rosita_core.compression.criteria.kcm import Kcm, ranks, representatives
from rosita_core.compression.criteria.magnitude import Magnitude
from rosita_core.compression.criteria.pivots import Pivots, head_pivots, unit_pivots
from rosita_core.compression.criteria.random import Random
from rosita_core.compression.criteria.taylor import Taylor
from rosita_core.compression.measuring import Measuring
from rosita_core.compression.ranked import importance_of, rearranged_layer
from rosita_core.compression.statistics import load_statistics, save_statistics
from rosita_core.training.batches import Batch
from rosita_core.training.hard_labels import hard_label_objective

KCM = Kcm(merge="ranks", sigma=None, alpha=1e-3)
ALL = (Taylor(), Fisher(), Attribution(), KCM, Pivots(), Magnitude(), Random(3))
WITHOUT_LABELS = (KCM, Pivots(), Magnitude(), Random(3))


@pytest.fixture
def model(sized):
    return sized((4, 3), (10, 7))


@pytest.fixture
def batches(inputs):
    def make(count=3, size=4):
        return [
            Batch(*inputs(batch=size, seed=number), torch.tensor([0, 1, 1, 0])[:size])
            for number in range(count)
        ]

    return make


def measured(model, batches, labels=True, regression=False):
    measuring = Measuring(model, "cpu", labels, regression)
    for batch in batches:
        measuring.add(batch)
    return measuring.statistics()


def same(a, b, **tolerance):
    pairs = zip((*a.heads, *a.ffn_units), (*b.heads, *b.ffn_units), strict=True)
    for left, right in pairs:
        torch.testing.assert_close(left.double(), right.double(), **tolerance)


def gated(model, batch, gates, seed=None):
    """Logits of the model with a gate on every head and unit."""
    hooks = []
    for layer, heads, units in zip(model.bert.encoder.layer, *gates, strict=True):
        for dense, gate in (
            (layer.attention.output.dense, heads.repeat_interleave(4)),
            (layer.output.dense, units),
        ):
            hooks.append(dense.register_forward_pre_hook(lambda _, x, g=gate: (x[0] * g,)))
    logits = model(batch.input_ids, batch.attention_mask, batch.token_type_ids).logits
    for hook in hooks:
        hook.remove()
    return logits


@pytest.mark.parametrize("of", ["loss", "probability"])
def test_a_gate_gradient_is_that_of_a_gate_in_the_model(model, batches, of):
    heads = [torch.ones(count, requires_grad=True) for count in (4, 3)]
    units = [torch.ones(count, requires_grad=True) for count in (10, 7)]
    statistics = measured(model, batches())
    for number, batch in enumerate(batches()):
        logits = gated(model, batch, (heads, units))
        if of == "loss":
            value = F.cross_entropy(logits, batch.labels)
        else:
            value = logits.softmax(1).gather(1, batch.labels[:, None]).sum()
        expected = torch.autograd.grad(value, [*heads, *units])
        gates = getattr(statistics, of)
        found = [gates[number] for gates in (*gates.heads, *gates.ffn_units)]
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours.float(), theirs, rtol=1e-4, atol=1e-6)


def test_taylor_is_that_of_a_training(model, batches):
    totals = Taylor().begin(model)
    for batch in batches():
        model.zero_grad()
        hard_label_objective(model, batch)["loss"].backward()
        totals = Taylor().accumulate(totals, model)
    own = Taylor().score(model, totals)
    found = importance_of(Taylor(), model, measured(model, batches()))
    for parts, expected in ((found.heads, own.heads), (found.ffn_units, own.ffn_units)):
        total = sum(part.sum() for part in expected)
        for ours, theirs in zip(parts, expected, strict=True):
            torch.testing.assert_close(ours.float(), theirs / total, rtol=1e-4, atol=1e-7)


def test_of_batches_of_one_row_attribution_of_the_loss_is_minus_p_times_the_loss_gradient(
    model, batches
):
    """d(-log p) = -dp / p."""
    batch = batches(1, 1)[0]
    statistics = measured(model, [batch])
    with torch.no_grad():
        p = model(*(batch.input_ids, batch.attention_mask, batch.token_type_ids)).logits.softmax(1)
    found = Attribution().rank(model, statistics)
    for ours, loss in zip(
        (*found.heads, *found.ffn_units),
        (*statistics.loss.heads, *statistics.loss.ffn_units),
        strict=True,
    ):
        torch.testing.assert_close(ours, -p[0, batch.labels[0]].double() * loss[0])


@pytest.mark.parametrize("criterion", [Attribution(), Fisher()])
def test_what_has_no_weight_after_it_is_worth_nothing(model, batches, criterion):
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.weight[:, 3] = 0
        model.bert.encoder.layer[0].attention.output.dense.weight[:, 4:8] = 0
    found = criterion.rank(model, measured(model, batches()))
    assert found.ffn_units[1][3] == 0 and found.heads[0][1] == 0
    assert (found.ffn_units[1][:3] != 0).all()


@pytest.mark.parametrize("criterion", ALL, ids=lambda one: type(one).__name__)
def test_scores_do_not_depend_on_the_order_of_batches(model, batches, criterion):
    forward = importance_of(criterion, model, measured(model, batches()))
    backward = importance_of(criterion, model, measured(model, batches()[::-1]))
    same(forward, backward, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("criterion", WITHOUT_LABELS, ids=lambda one: type(one).__name__)
def test_permuted_labels_change_nothing_where_none_are_needed(model, batches, criterion):
    turned = [replace(batch, labels=1 - batch.labels) for batch in batches()]
    same(
        importance_of(criterion, model, measured(model, batches())),
        importance_of(criterion, model, measured(model, turned)),
        rtol=0,
        atol=0,
    )


def test_without_labels_attribution_takes_the_predicted_class_and_reads_no_label(model, batches):
    turned = [replace(batch, labels=1 - batch.labels) for batch in batches()]
    own, other = (measured(model, some, labels=False) for some in (batches(), turned))
    assert own.loss is None and not own.weight_gradients
    same(Attribution().rank(model, own), Attribution().rank(model, other), rtol=0, atol=0)
    with torch.no_grad():
        said = [
            replace(
                b, labels=model(b.input_ids, b.attention_mask, b.token_type_ids).logits.argmax(1)
            )
            for b in batches()
        ]
    same(Attribution().rank(model, own), Attribution().rank(model, measured(model, said)))


def test_a_regression_has_a_loss_and_no_probability(sized, batches):
    model = sized((2,), (5,), id2label={0: "score"}, problem_type="regression")
    some = [replace(batch, labels=batch.labels.float()) for batch in batches()]
    statistics = measured(model, some, regression=True)
    assert statistics.probability is None
    assert statistics.loss.ffn_units[0].abs().sum() > 0


def test_second_moments_leave_padding_out(model, inputs):
    ids, mask, types = inputs(batch=3, padded=True)
    labels = torch.tensor([0, 1, 1])
    padded = Batch(*(torch.nn.functional.pad(x, (0, 4)) for x in (ids, mask, types)), labels)
    plain = measured(model, [Batch(ids, mask, types, labels)])
    found = measured(model, [padded])
    assert found.tokens == plain.tokens == int(mask.sum()) and found.rows == 3
    for ours, theirs in zip(found.unit_moments, plain.unit_moments, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        assert (torch.linalg.eigvalsh(ours) > -1e-4 * ours.diagonal().max()).all()


def test_measuring_changes_nothing_of_the_model(model, batches, snapshot):
    before = snapshot(model)
    measured(model, batches())
    assert snapshot.unchanged(model, before)


@pytest.mark.parametrize("labels", [True, False])
def test_statistics_come_back_from_their_file(model, batches, tmp_path, labels):
    statistics = measured(model, batches(), labels=labels)
    save_statistics(statistics, tmp_path)
    found = load_statistics(tmp_path)
    assert (found.rows, found.tokens) == (statistics.rows, statistics.tokens)
    assert (found.loss is None) == (not labels)
    for criterion in ALL if labels else (Attribution(), *WITHOUT_LABELS):
        same(
            importance_of(criterion, model, statistics),
            importance_of(criterion, model, found),
            rtol=1e-3,
            atol=1e-6,
        )


def test_pivots_are_those_of_a_column_pivoted_qr():
    random = np.random.default_rng(0)
    z = random.normal(size=(200, 40)) @ random.normal(size=(40, 40))
    _, upper, order = qr(z, mode="economic", pivoting=True)
    found = unit_pivots(torch.from_numpy(z.T @ z))
    assert torch.argsort(found, descending=True).tolist() == order.tolist()
    np.testing.assert_allclose(found.numpy()[order], np.abs(np.diag(upper)), rtol=1e-6)


def test_what_others_stand_in_for_has_no_pivot():
    random = np.random.default_rng(0)
    z = random.normal(size=(100, 6))
    z = np.column_stack([z, z[:, 0] + z[:, 1]])
    assert (unit_pivots(torch.from_numpy(z.T @ z)) < 1e-6).sum() == 1
    twice = np.column_stack([z[:, :2], z[:, 2:4], z[:, :2] / 2])
    found = head_pivots(torch.from_numpy(twice.T @ twice), 2)
    assert found[2] < 1e-6 * found[0] and (found[:2] > 1).all()


def test_heads_of_one_column_have_the_pivots_of_units():
    z = np.random.default_rng(1).normal(size=(60, 9))
    moments = torch.from_numpy(z.T @ z)
    torch.testing.assert_close(head_pivots(moments, 1), unit_pivots(moments))


def test_equal_columns_are_equally_representative_and_places_do_not_matter():
    rows = torch.from_numpy(np.random.default_rng(2).normal(size=(8, 5)))
    rows[6] = rows[1]
    found = representatives(rows, None, 1e-6)
    torch.testing.assert_close(found[6], found[1])
    assert found[1] < found.max()
    order = torch.tensor([3, 1, 4, 0, 7, 2, 6, 5])
    torch.testing.assert_close(representatives(rows[order], None, 1e-6), found[order])


@pytest.mark.parametrize("merge", ["ranks", "product"])
def test_kcm_ranks_units_alone_and_follows_them(model, batches, merge):
    criterion = replace(KCM, merge=merge)
    before = criterion.rank(model, measured(model, batches()))
    assert all((heads == 0).all() for heads in before.heads)
    order = torch.tensor([6, 2, 0, 1, 5, 4, 3])
    layer = model.bert.encoder.layer[1]
    with torch.no_grad():
        layer.intermediate.dense.weight.copy_(layer.intermediate.dense.weight[order])
        layer.intermediate.dense.bias.copy_(layer.intermediate.dense.bias[order])
        layer.output.dense.weight.copy_(layer.output.dense.weight[:, order])
    after = criterion.rank(model, measured(model, batches()))
    torch.testing.assert_close(after.ffn_units[1], before.ffn_units[1][order], rtol=1e-4, atol=1e-6)


def test_ranks_of_equal_scores_are_equal():
    assert ranks(torch.tensor([2.0, 1.0, 2.0, 3.0])).tolist() == [1, 0, 1, 3]


def test_rearranging_keeps_the_number_and_prunes_what_cancels():
    # The least two alone add up; the second and third cancel each other.
    gradients = torch.tensor([[1.0, 2.0, -2.1, 5.0]])
    kept = rearranged_layer(gradients, 2)
    assert kept.tolist() == [0, 3]
    random = torch.Generator().manual_seed(0)
    for keep in (1, 5, 12):
        many = torch.randn(7, 12, generator=random)
        kept = rearranged_layer(many, keep)
        assert len(kept) == keep and kept.tolist() == sorted(set(kept.tolist()))


def test_rearranging_does_what_its_source_says():
    """The slow way: try every member of the pruned set, each time from the vectors."""
    random = torch.Generator().manual_seed(1)
    for keep in (2, 4, 6):
        vectors = torch.randn(5, 9, generator=random, dtype=torch.float64)
        score = vectors.square().sum(0)
        order = score.argsort().tolist()
        pruned = order[: 9 - keep]
        for index in order[9 - keep :]:
            pruned.append(index)
            norms = {
                leaves: float(vectors[:, [i for i in pruned if i != leaves]].sum(1).square().sum())
                for leaves in pruned
            }
            pruned.remove(min(norms, key=norms.get))
        expected = sorted(set(range(9)) - set(pruned))
        assert rearranged_layer(vectors, keep).tolist() == expected


def test_calibration_rows_are_one_sample_without_replacement():
    few = Calibration(rows=20, batch_size=8, max_length=16, seed=3)
    assert len(set(few.chosen(50).tolist())) == 20
    assert few.chosen(50).tolist() == replace(few, batch_size=4).chosen(50).tolist()
    assert few.chosen(50).tolist() != replace(few, seed=4).chosen(50).tolist()
    assert replace(few, rows=None).chosen(7).tolist() == list(range(7))
    with pytest.raises(ValueError, match=r"calibration.rows must be at most 19, .* got 20"):
        few.chosen(19)

"""Distillation losses: what costs nothing, what does not count, what the fidelity switches do."""

import pytest
import torch
from torch.nn import functional as F

from rosita_core.distillation.objective import distillation_objective
from rosita_core.distillation.objectives.predictions import prediction_loss
from rosita_core.distillation.objectives.states import hidden_loss
from rosita_core.model.checkpoint import with_dropout
from rosita_core.training.batches import Batch
from rosita_core.training.placement import Placement


@pytest.fixture
def batch(inputs):
    return Batch(*inputs(), labels=torch.tensor([0, 1, 1, 0, 1]))


@pytest.fixture
def states():
    random = torch.Generator().manual_seed(0)

    def make(count):
        return tuple(torch.randn(3, 5, 4, generator=random) for _ in range(count))

    return make


MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])


def gradients_of(loss, model):
    model.zero_grad(set_to_none=True)
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_distilling_a_model_into_itself_costs_nothing(sized, distillation, batch, placement):
    model = sized((3, 2), (6, 9), 5)
    objective = distillation_objective(model, distillation(), placement)
    losses = objective(model, batch)
    assert losses["loss_hidden"] == 0
    assert losses["loss"] == losses["loss_prediction"]
    assert gradients_of(losses["loss"], model).abs().max() < 1e-6
    other = objective(sized((3, 2), (6, 9), 5, seed=1), batch)
    assert other["loss_hidden"] > 0
    assert other["loss_prediction"] > losses["loss_prediction"]


def test_the_loss_is_the_sum_of_its_parts_by_hand(sized, distillation, batch, placement):
    teacher, student = sized((2,) * 3, (6,) * 3), sized((2,) * 2, (6,) * 2, seed=1)
    losses = distillation_objective(teacher, distillation(), placement)(student, batch)
    tensors = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
    taught = teacher(*tensors, output_hidden_states=True)
    learned = student(*tensors, output_hidden_states=True)
    real = batch.attention_mask.bool()
    hidden = sum(
        ((learned.hidden_states[i] - taught.hidden_states[j])[real] ** 2).mean()
        for i, j in ((0, 0), (1, 1), (2, 3))
    )
    probabilities = taught.logits.softmax(-1)
    prediction = -(probabilities * learned.logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(losses["loss_hidden"], hidden)
    torch.testing.assert_close(losses["loss_prediction"], prediction)
    torch.testing.assert_close(losses["loss"], hidden + prediction)


def test_padding_does_not_count(states):
    student, teacher = states(3), states(3)
    loss = hidden_loss(student, teacher, (0, 1, 2), MASK, False)
    noise = [torch.where(MASK.bool()[..., None], s, s + 100) for s in student]
    torch.testing.assert_close(hidden_loss(tuple(noise), teacher, (0, 1, 2), MASK, False), loss)
    longer = [F.pad(s, (0, 0, 0, 4), value=3.0) for s in student]
    taught = [F.pad(t, (0, 0, 0, 4), value=-3.0) for t in teacher]
    mask = F.pad(MASK, (0, 4))
    found = hidden_loss(tuple(longer), tuple(taught), (0, 1, 2), mask, False)
    torch.testing.assert_close(found, loss)


def test_the_objective_does_not_depend_on_the_padding(sized, distillation, batch, placement):
    teacher, student = sized((2, 2), (6, 6)), sized((2, 2), (6, 6), seed=1)
    objective = distillation_objective(teacher, distillation(), placement)
    parts = [batch.input_ids, batch.attention_mask, batch.token_type_ids]
    longer = Batch(*(F.pad(part, (0, 5)) for part in parts), labels=batch.labels)
    for name, loss in objective(student, batch).items():
        torch.testing.assert_close(objective(student, longer)[name], loss)


def test_the_mapping_selects_teacher_states(states):
    teacher = states(4)
    student = (teacher[0], teacher[2], teacher[3])
    assert hidden_loss(student, teacher, (0, 2, 3), MASK, False) == 0
    assert hidden_loss(student, teacher, (0, 1, 3), MASK, False) > 0
    with pytest.raises(ValueError):
        hidden_loss(student, teacher, (0, 2), MASK, False)


def test_the_authors_average_over_padding_too(states):
    student, teacher = states(2), states(2)
    expected = sum(F.mse_loss(s, t) for s, t in zip(student, teacher, strict=True))
    torch.testing.assert_close(hidden_loss(student, teacher, (0, 1), MASK, True), expected)
    full = torch.ones_like(MASK)
    torch.testing.assert_close(hidden_loss(student, teacher, (0, 1), full, False), expected)


@pytest.mark.parametrize("on_padding", [False, True])
@pytest.mark.parametrize("kept", [torch.float32, torch.float16])
@pytest.mark.parametrize("learned", [torch.float32, torch.bfloat16])
def test_the_gradient_of_the_hidden_loss_is_that_of_its_formula(states, on_padding, kept, learned):
    """As autograd finds it, doubled where the loss is; teacher's states in 16 bit, too."""
    teacher = [state.to(kept) for state in states(3)]
    student = [state.to(learned).requires_grad_() for state in states(2)]
    counted = torch.ones_like(MASK) if on_padding else MASK
    by_formula = sum(
        ((s.float() - teacher[i].float()) * counted[..., None]).square().sum() / (counted.sum() * 4)
        for s, i in zip(student, (0, 2), strict=True)
    )
    loss = hidden_loss(tuple(student), tuple(teacher), (0, 2), MASK, on_padding)
    torch.testing.assert_close(loss, by_formula)
    expected = torch.autograd.grad(2 * by_formula, student)
    for found, wanted in zip(torch.autograd.grad(2 * loss, student), expected, strict=True):
        assert found.dtype is learned
        torch.testing.assert_close(found, wanted)


def test_the_gradient_of_the_prediction_loss_is_the_difference_of_probabilities():
    teacher = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]])
    student = torch.tensor([[1.0, 1.0, -2.0], [0.5, 0.5, 0.0]], requires_grad=True)
    prediction_loss(student, teacher, 1.0, False).backward()
    expected = (student.softmax(-1) - teacher.softmax(-1)) / 2
    torch.testing.assert_close(student.grad, expected.detach())


def test_variants_of_the_prediction_loss():
    random = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 3, generator=random) for _ in range(2))
    loss = prediction_loss(student, teacher, 1.0, False)
    authors = prediction_loss(student, teacher, 1.0, True)
    torch.testing.assert_close(authors, loss / 3)
    warm = prediction_loss(student, teacher, 2.0, False)
    torch.testing.assert_close(warm, prediction_loss(student / 2, teacher / 2, 1.0, False))
    numbers = prediction_loss(student[:, :1], teacher[:, :1], 1.0, False)
    torch.testing.assert_close(numbers, ((student[:, 0] - teacher[:, 0]) ** 2).mean())


def test_regression_learns_the_teachers_numbers(sized, distillation, batch, placement):
    kind = {"num_labels": 1, "problem_type": "regression"}
    teacher, student = sized((2,), (6,), **kind), sized((2,), (6,), seed=1, **kind)
    objective = distillation_objective(teacher, distillation(hidden=False), placement)
    losses = objective(student, batch)
    inputs = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
    expected = F.mse_loss(student(*inputs).logits, teacher(*inputs).logits)
    torch.testing.assert_close(losses["loss_prediction"], expected)
    assert set(losses) == {"loss", "loss_prediction"}
    assert objective(teacher, batch)["loss"] == 0


def test_the_teacher_head_of_the_authors_has_a_relu(sized, distillation, batch, placement):
    teacher, student = sized((2,), (6,)), sized((2,), (6,), seed=1)
    settings = distillation(hidden=False, relu_teacher_head=True)
    loss = distillation_objective(teacher, settings, placement)(student, batch)["loss"]
    inputs = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
    top = teacher(*inputs, output_hidden_states=True).hidden_states[-1]
    targets = teacher.classifier(teacher.bert.pooler(top).relu())
    expected = F.cross_entropy(student(*inputs).logits, targets.softmax(-1))
    torch.testing.assert_close(loss, expected)
    own = distillation_objective(teacher, distillation(hidden=False), placement)
    assert abs(own(student, batch)["loss"] - loss) > 1e-5


def test_only_the_authors_teacher_is_noisy(sized, distillation, batch, placement):
    teacher, student = with_dropout(sized((2,), (6,)), 0.3), sized((2,), (6,), seed=1)

    def twice(settings):
        objective = distillation_objective(teacher, settings, placement)
        return [objective(student, batch)["loss"].item() for _ in range(2)]

    quiet = twice(distillation())
    assert quiet[0] == quiet[1]
    noisy = twice(distillation(teacher_dropout=True))
    assert noisy[0] != noisy[1]


@pytest.mark.parametrize("train_mode", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_teacher_that_is_passed_in_stays_as_it_is(
    sized, distillation, batch, snapshot, train_mode, precision
):
    placement = Placement("cpu", precision)
    teacher, student = sized((2,), (6,)).train(train_mode), sized((2,), (6,), seed=1)
    before = snapshot(teacher)
    for settings in (distillation(), distillation(teacher_dropout=True)):
        objective = distillation_objective(teacher, settings, placement)
        with placement.autocast():
            losses = objective(student, batch)
        losses["loss"].backward()
    assert snapshot.unchanged(teacher, before)
    assert all(p.grad is not None for p in student.parameters())

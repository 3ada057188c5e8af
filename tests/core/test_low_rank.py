"""The factorization of the embedding: truncated SVD, by the theorem of Eckart and Young."""

import pytest
import torch

from rosita_core.compression.low_rank import factorize


@pytest.fixture
def matrix():
    return torch.randn(40, 12, generator=torch.Generator().manual_seed(0))


def error(matrix, rank):
    factors = factorize(matrix, rank)
    return torch.linalg.matrix_norm(
        matrix.double() - factors.left.double() @ factors.right.double()
    )


def test_full_rank_is_lossless(matrix):
    assert error(matrix, 12) < 1e-5


@pytest.mark.parametrize("rank", range(1, 12))
def test_the_error_is_the_norm_of_the_discarded_singular_values(matrix, rank):
    discarded = torch.linalg.svdvals(matrix.double())[rank:]
    assert error(matrix, rank).item() == pytest.approx(discarded.norm().item(), rel=1e-5)
    found = factorize(matrix, rank).singular_values
    torch.testing.assert_close(found, torch.linalg.svdvals(matrix), rtol=1e-5, atol=1e-5)


def test_the_error_never_rises_with_the_rank(matrix):
    errors = [error(matrix, rank).item() for rank in range(1, 13)]
    assert errors == sorted(errors, reverse=True)


def test_a_smaller_rank_is_the_first_columns_of_a_larger_one(matrix):
    large = factorize(matrix, 9)
    for rank in (1, 4, 8):
        small = factorize(matrix, rank)
        torch.testing.assert_close(small.left, large.left[:, :rank])
        torch.testing.assert_close(small.right, large.right[:rank])


def test_the_factors_are_scaled_and_orthonormal(matrix):
    factors = factorize(matrix, 5)
    torch.testing.assert_close(factors.right @ factors.right.T, torch.eye(5))
    gram = factors.left.T @ factors.left
    torch.testing.assert_close(gram, factors.singular_values[:5].square().diag(), atol=1e-4, rtol=0)
    assert factors.left.is_contiguous()
    assert factors.right.is_contiguous()


def test_signs_do_not_depend_on_the_decomposition(matrix):
    right = factorize(matrix, 5).right
    largest = right.gather(1, right.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()
    # The Gram matrix of -M is that of M: the look-up table changes its sign, the projection not.
    negative = factorize(-matrix, 5)
    torch.testing.assert_close(negative.right, right)
    torch.testing.assert_close(negative.left, -factorize(matrix, 5).left)


def test_deficient_matrices_and_fewer_rows_than_columns(matrix):
    low = matrix[:, :3] @ matrix[:3, :]
    assert error(low, 3) < 1e-4
    few = matrix[:7]
    assert error(few, 7) < 1e-5
    assert factorize(few, 12).singular_values[7:].max() < 1e-3


def test_the_argument_stays_and_takes_no_gradient(matrix):
    parameter = torch.nn.Parameter(matrix.clone())
    factors = factorize(parameter, 4)
    assert torch.equal(parameter.detach(), matrix)
    assert not factors.left.requires_grad
    assert factors.left.dtype == matrix.dtype


@pytest.mark.parametrize("rank", [0, -2, 13])
def test_ranks_out_of_bounds_are_named(matrix, rank):
    message = rf"embedding_rank must be in \[1, 12\] for a 40 x 12 embedding, got {rank}"
    with pytest.raises(ValueError, match=message):
        factorize(matrix, rank)

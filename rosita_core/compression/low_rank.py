"""Low-rank factorization of the word embedding (ROSITA, section on low-rank factorization).

Letters: V vocabulary, H hidden size, E rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Factors:
    """`left @ right` approximates a V x H matrix.

    Attributes:
        left: (V, E) = U_E S_E, the look-up table.
        right: (E, H) = V_E^T, rows orthonormal.
        singular_values: (H,), all of them, descending; those from E on are the error.
    """

    left: torch.Tensor
    right: torch.Tensor
    singular_values: torch.Tensor


@torch.no_grad()
def factorize(matrix_VH: torch.Tensor, rank: int) -> Factors:
    """The best rank-`rank` approximation of `matrix_VH` (truncated SVD, Eckart and Young).

    Works through the H x H Gram matrix in float64, since V >> H: U S = matrix @ V needs no division
    by small singular values. A sign is fixed per component (its largest entry is positive), so that
    the factors do not depend on the LAPACK build.

    Raises:
        ValueError: where `rank` is outside [1, H].
    """
    vocab, hidden = matrix_VH.shape
    if not 1 <= rank <= hidden:
        raise ValueError(
            f"embedding_rank must be in [1, {hidden}] for a {vocab} x {hidden} embedding, "
            f"got {rank}"
        )
    double_VH = matrix_VH.double()
    eigenvalues, vectors = torch.linalg.eigh(double_VH.T @ double_VH)
    descending = vectors.flip(1)
    largest = descending.abs().argmax(0, keepdim=True)
    descending = descending * descending.gather(0, largest).sign()
    kept_HE = descending[:, :rank]
    return Factors(
        left=(double_VH @ kept_HE).to(matrix_VH.dtype),
        right=kept_HE.T.contiguous().to(matrix_VH.dtype),
        singular_values=eigenvalues.flip(0).clamp_min(0).sqrt().to(matrix_VH.dtype),
    )

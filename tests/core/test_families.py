"""Every family converts without loss: the logits and hidden states of transformers' own class."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from interrupted import Stopped, StoppingAt
from small_trainings import pruning
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CamembertConfig,
    CamembertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from rosita_core.compression.kept import Kept, keep_bottom_layers
from rosita_core.compression.schedule import at_equal_distances, width_targets
from rosita_core.compression.surgery import prune
from rosita_core.distillation.objective import distillation_objective
from rosita_core.model.checkpoint import load, save, shape_of
from rosita_core.model.locate import config_of, shape_from
from rosita_core.model.pretrained import load_pretrained
from rosita_core.model.shape import count_parameters
from rosita_core.training.checkpoints import NoCheckpoints
from rosita_core.training.loop import train

BERT_SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 34,
    "initializer_range": 0.3,
}
DISTILBERT_SIZES = {
    "vocab_size": 64,
    "dim": 16,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 32,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
}
ONE_TYPE = {"type_vocab_size": 1, "pad_token_id": 1}
NARROW, WIDE = {"embedding_size": 8}, {"embedding_size": 16}
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "bert": (BertConfig, BertForSequenceClassification, BERT_SIZES),
    "roberta": (RobertaConfig, RobertaForSequenceClassification, BERT_SIZES | ONE_TYPE),
    "xlm-roberta": (XLMRobertaConfig, XLMRobertaForSequenceClassification, BERT_SIZES | ONE_TYPE),
    "camembert": (CamembertConfig, CamembertForSequenceClassification, BERT_SIZES | ONE_TYPE),
    "distilbert": (DistilBertConfig, DistilBertForSequenceClassification, DISTILBERT_SIZES),
    "electra": (
        ElectraConfig,
        ElectraForSequenceClassification,
        BERT_SIZES | {"embedding_size": 8},
    ),
    "electra-wide": (
        ElectraConfig,
        ElectraForSequenceClassification,
        BERT_SIZES | {"embedding_size": 16},
    ),
}
CHANGES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "three layers": {"num_hidden_layers": 3},
    "another activation": {"hidden_act": "relu"},
}
SIZES_OF_DISTILBERT = {"num_hidden_layers": "n_layers", "hidden_act": "activation"}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def own(family: str, outputs: int = 3, **changes: Any) -> Any:
    """transformers' own classifier with random weights and no bias at zero, in eval mode."""
    config, model, sizes = FAMILIES[family]
    if family == "distilbert":
        changes = {SIZES_OF_DISTILBERT.get(name, name): value for name, value in changes.items()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = model(config(**{**sizes, **changes}, num_labels=outputs)).eval()
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(0, 0.1)
    return made


def inputs(family: str, padded: str, pair: bool) -> dict[str, torch.Tensor]:
    """Five rows of 12 tokens, with padding on a side; of pairs, types where the model has two."""
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 64, (5, 12), generator=random)
    mask = torch.ones_like(ids)
    pad = FAMILIES[family][2].get("pad_token_id", 0)
    for row in range(1, 5):
        where = {"right": slice(12 - 2 * row, 12), "left": slice(0, 2 * row), "no": slice(0, 0)}
        ids[row, where[padded]] = pad
        mask[row, where[padded]] = 0
    found = {"input_ids": ids, "attention_mask": mask}
    if pair and family in ("bert", "electra", "electra-wide"):
        found["token_type_ids"] = (torch.arange(12) >= 6).long().expand_as(ids)
    return found


@torch.no_grad()
def worst_state(ours: Any, theirs: Any, given: dict[str, torch.Tensor]) -> float:
    """The largest difference of hidden states at tokens, in float64."""
    found = ours.double()(**given, output_hidden_states=True).hidden_states
    wanted = theirs.double()(**given, output_hidden_states=True).hidden_states
    mask = given["attention_mask"][..., None]
    pairs = zip(found, wanted, strict=True)
    return max(float(((a - b) * mask).abs().max()) for a, b in pairs)


@torch.no_grad()
def worst(ours: Any, theirs: Any, given: dict[str, torch.Tensor]) -> float:
    """The largest difference of hidden states and logits, in float64."""
    logits = ours.double()(**given).logits - theirs.double()(**given).logits
    return max(float(logits.abs().max()), worst_state(ours, theirs, given))


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("padded", ["no", "right", "left"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_converts_without_loss(
    family: str, change: str, padded: str, pair: bool, tmp_path: Path
) -> None:
    theirs = own(family, **CHANGES[change])
    theirs.save_pretrained(tmp_path)
    ours = load_pretrained(tmp_path, 3, seed=0)
    assert not ours.training
    given = inputs(family, padded, pair)
    if padded == "left" and FAMILIES[family][2].get("pad_token_id") == 1:
        # Its head reads the first position, which is padding here, and nothing of the text.
        assert worst_state(ours, theirs, given) < 1e-12
        return
    with torch.no_grad():
        torch.testing.assert_close(ours(**given).logits, theirs(**given).logits, rtol=0, atol=1e-5)
    assert worst(ours, theirs, given) < 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_files_in_16_bit_lose_nothing_more(family: str, dtype: str, tmp_path: Path) -> None:
    theirs = own(family).to(DTYPES[dtype])
    theirs.save_pretrained(tmp_path)
    ours = load_pretrained(tmp_path, 3, seed=0)
    assert worst(ours, theirs, inputs(family, "right", True)) < 1e-12


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_gets_a_seeded_head_and_keeps_the_rest(family: str, tmp_path: Path) -> None:
    theirs = own(family)
    getattr(theirs, theirs.base_model_prefix).save_pretrained(tmp_path)
    one, same, other = (load_pretrained(tmp_path, 2, seed) for seed in (1, 1, 2))
    given = inputs(family, "right", False)
    with torch.no_grad():
        states = [m(**given, output_hidden_states=True).hidden_states[-1] for m in (one, other)]
        logits = [m(**given).logits for m in (one, same, other)]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


@pytest.mark.parametrize("family", FAMILIES)
def test_its_shape_is_known_from_its_configuration_and_counts_all_of_it(
    family: str, tmp_path: Path
) -> None:
    own(family).save_pretrained(tmp_path)
    shape = shape_from(config_of(tmp_path), 3)
    model = load_pretrained(tmp_path, 3, seed=0)
    assert shape_of(model.config) == shape
    assert count_parameters(shape).total == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_pruned_it_is_counted_and_comes_back_from_disk(family: str, tmp_path: Path) -> None:
    own(family).save_pretrained(tmp_path / "theirs")
    model = load_pretrained(tmp_path / "theirs", 3, seed=0)
    everything = keep_bottom_layers(shape_of(model.config), 2)
    kept = Kept(
        layers=(1,),
        heads=(everything.heads[1][:2],),
        ffn_units=(everything.ffn_units[1][:5],),
        embedding_rank=4,
    )
    small = prune(model, kept).eval()
    shape = shape_of(small.config)
    assert str(shape) == "a2_l1_f5_e4"
    assert count_parameters(shape).total == sum(p.numel() for p in small.parameters())
    save(small, tmp_path)
    given = inputs(family, "right", False)
    with torch.no_grad():
        assert torch.equal(load(tmp_path)(**given).logits, small(**given).logits)
        again = load_pretrained(tmp_path, 3, seed=0)
        assert torch.equal(again(**given).logits, small(**given).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_at_its_full_rank_a_factorized_embedding_changes_nothing(
    family: str, tmp_path: Path
) -> None:
    own(family).save_pretrained(tmp_path)
    model = load_pretrained(tmp_path, 3, seed=0)
    shape = shape_of(model.config)
    kept = replace(keep_bottom_layers(shape, 2), embedding_rank=shape.frame.embedding_width)
    given = inputs(family, "right", False)
    with torch.no_grad():
        found = prune(model, kept).eval()(**given).logits
        torch.testing.assert_close(found, model(**given).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["mobilebert", "deberta-v2", "modernbert", "gpt2"])
def test_other_architectures_are_refused_by_the_names_of_those_that_there_are(
    kind: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    families = "bert, camembert, distilbert, electra, roberta, rosita, xlm-roberta"
    with pytest.raises(ValueError, match=f"in {families}, got '{kind}'"):
        config_of(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_pruned_is_what_is_masked(family: str, tmp_path: Path) -> None:
    own(family).save_pretrained(tmp_path)
    model = load_pretrained(tmp_path, 3, seed=0).double()
    everything = keep_bottom_layers(shape_of(model.config), 2)
    heads, units = torch.tensor([0, 2]), torch.tensor([1, 3, 20])
    kept = replace(everything, heads=(heads, heads), ffn_units=(units, units))
    small = prune(model, kept).eval()
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            columns = torch.ones(4, 4, dtype=torch.bool)
            columns[heads] = False
            layer.attention.output.dense.weight[:, columns.flatten()] = 0
            gone = torch.ones(32, dtype=torch.bool)
            gone[units] = False
            layer.output.dense.weight[:, gone] = 0
        given = inputs(family, "right", True)
        torch.testing.assert_close(small(**given).logits, model(**given).logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_distilled_and_pruned_step_by_step_it_stops_and_goes_on_to_the_same_bits(
    family: str,
    tmp_path: Path,
    rows: Any,
    run_of: Any,
    training: Any,
    distillation: Any,
    placement: Any,
) -> None:
    own(family, 2).save_pretrained(tmp_path)
    model = load_pretrained(tmp_path, 2, seed=0)
    targets = width_targets(shape_of(model.config), 2, 8, 5, 3)
    data, settings = rows(30), training(epochs=2, keep_best=True, dropout=0.0)

    def trained(checkpoints: Any) -> Any:
        objective = distillation_objective(model, distillation(), placement)
        run = run_of(data, checkpoints=checkpoints)
        hooks = pruning(at_equal_distances(targets, 16, 0.6), False)
        return train(model, settings, objective, run, lambda _: {"score": 0.5}, hooks).model

    whole, checkpoints = trained(NoCheckpoints()), StoppingAt(tmp_path / "saved", (2, 7))
    for _ in range(2):
        with pytest.raises(Stopped):
            trained(checkpoints)
    again = trained(checkpoints)
    assert str(shape_of(whole.config)) == "a2_l2_f8_e5"
    assert whole.state_dict().keys() == again.state_dict().keys()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_in_16_bits_the_residual_stream_stays_in_32(tmp_path: Path) -> None:
    """Also where narrow embeddings are projected, by a product that autocast computes in 16."""
    own("electra").save_pretrained(tmp_path)
    model = load_pretrained(tmp_path, 3, seed=0)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(**inputs("electra", "no", False), output_hidden_states=True)
    assert {state.dtype for state in found.hidden_states} == {torch.float32}

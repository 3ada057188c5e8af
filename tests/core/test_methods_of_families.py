"""Every method cuts every family: within the budget, no repair makes it worse, all kept is all."""

from dataclasses import replace

import pytest
import torch
from test_cut import CALIBRATION, METHODS
from test_families import FAMILIES, inputs, own

from rosita_core.compression.allocation.uniform import Uniform
from rosita_core.compression.budgets.budget import Limit, allowed, size_of
from rosita_core.compression.criteria.magnitude import Magnitude
from rosita_core.model.checkpoint import shape_of
from rosita_core.model.pretrained import load_pretrained
from rosita_core.stages.cut import CUT, CutSettings, cut
from rosita_core.stages.measure import MeasureSettings, measure

HALF = Limit("encoder", 0.5, None, None)
UNIT = 2 * 16 + 1


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def dense(family, tmp_path):
    own(family, outputs=2).save_pretrained(tmp_path)
    return load_pretrained(tmp_path, 2, seed=0)


@pytest.fixture
def cut_by(dense, rows, framing, placement, scoring):
    train, selection = rows(24), rows(8, seed=1)
    settings = MeasureSettings(CALIBRATION, labels=True, regression=False)
    measured = measure(dense, train, framing, settings, placement, lambda _: None)
    common = {"floor_heads": 1, "floor_units": 2, "embedding_rank": None, "limit": HALF}
    common |= {"calibration": CALIBRATION, "scoring": scoring()}
    base = CutSettings(Magnitude(), Uniform(False), False, None, **common)

    def run(**changes):
        chosen = replace(base, **changes)
        return cut(*(dense, measured, train, selection, framing, chosen, placement), lambda _: None)

    return run


def test_every_method_keeps_within_its_budget(cut_by, dense):
    for name, parts in METHODS.items():
        done = cut_by(**parts)
        most = allowed(shape_of(dense.config), parts.get("limit", HALF), 1)
        assert most - UNIT < size_of(shape_of(done.model.config), "encoder", 1) <= most, name
        for fit in done.documents[CUT]["fits"]:
            assert fit["after"] <= fit["before"] + 1e-9, name


@torch.no_grad()
def test_what_keeps_all_says_the_same(cut_by, dense, family):
    given = inputs(family, "right", True)
    for name, parts in METHODS.items():
        all_of_it = parts | {"limit": Limit("encoder", 1.0, None, None), "repair": None}
        done = cut_by(**all_of_it)
        torch.testing.assert_close(done.model(**given).logits, dense(**given).logits, msg=name)

"""Which teacher layer teaches which student layer."""

from itertools import pairwise

import pytest

from rosita_core.distillation.layer_mapping import map_layers


def test_the_authors_mapping_of_12_to_8():
    assert map_layers(12, 8) == (0, 1, 3, 4, 6, 7, 9, 10, 12)


def test_divisible_counts_are_equally_spaced():
    assert map_layers(12, 4) == (0, 3, 6, 9, 12)
    assert map_layers(12, 6) == (0, 2, 4, 6, 8, 10, 12)
    for layers in (1, 5, 12):
        assert map_layers(layers, layers) == tuple(range(layers + 1))
        assert map_layers(3 * layers, layers) == tuple(range(0, 3 * layers + 1, 3))


@pytest.mark.parametrize("teacher", range(1, 25))
def test_every_pair_climbs_from_bottom_to_top(teacher):
    for student in range(1, teacher + 1):
        found = map_layers(teacher, student)
        assert len(found) == student + 1
        assert found[0] == 0
        assert found[-1] == teacher
        assert list(found) == sorted(set(found))
        assert max(b - a for a, b in pairwise(found)) <= -(-teacher // student)


@pytest.mark.parametrize("student", range(2, 24))
def test_one_layer_less_drops_the_state_below_the_top(student):
    # The authors' rule, in whole numbers: teacher state i goes where (i + 1) S / T is whole.
    assert map_layers(student + 1, student) == (*range(student), student + 1)


@pytest.mark.parametrize("student", [0, -1, 13])
def test_counts_out_of_bounds_are_named(student):
    message = rf"student_layers must be in \[1, 12\] .*got {student}"
    with pytest.raises(ValueError, match=message):
        map_layers(12, student)

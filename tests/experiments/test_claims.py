import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.shared.claims import at_least, at_most, between, equal, near, number, true

NUMBERS = st.floats(-1e6, 1e6)


@given(st.lists(NUMBERS, min_size=1, max_size=5), NUMBERS, st.floats(0, 1e6))
def test_the_mean_decides(values, reference, margin):
    mean = float(np.mean(values))
    assert near("A1", "", values, reference, margin).holds == (abs(mean - reference) <= margin)
    assert at_least("A1", "", values, reference).holds == (mean >= reference)
    assert at_most("A1", "", values, reference).holds == (mean <= reference)
    high = reference + margin
    assert between("A1", "", values, reference, high, margin=1).holds == (reference - 1 <= mean <= high + 1)
    assert near("A1", "", values, reference, margin).values == tuple(values)


@pytest.mark.parametrize("bad", [math.nan, [1.0, math.nan], [math.inf, -math.inf]])
def test_what_is_no_number_holds_nothing(bad):
    with np.errstate(invalid="ignore"):
        for claim in (near("A1", "", bad, 1, 1e9), at_least("A1", "", bad, -1e9), at_most("A1", "", bad, 1e9)):
            assert not claim.holds
        assert not between("A1", "", bad, -1e9, 1e9).holds
        assert not equal("A1", "", bad, np.zeros(np.shape(bad)), margin=1e9).holds


@pytest.mark.parametrize(
    ("measured", "reference", "holds"),
    [
        ([1, 2], [1, 2], True),
        ([1, 2], [1, 2.2], False),
        ([1, 2], [1, 2.05], True),
        ([1], [1, 1], False),
        ([], [], False),
    ],
)
def test_arrays_agree_entry_by_entry(measured, reference, holds):
    assert equal("A1", "", measured, reference, margin=0.1).holds == holds


def test_what_is_said():
    claim = near("C2", "loss of SGD", [0.25, 0.31], 0.29, 0.05)
    assert (claim.measured, claim.reference, claim.source) == ("0.280 ± 0.030", "0.29 ± 0.05", "our own")
    assert between("C7", "", 0.4, 0.39, 0.46, 0.06).reference == "0.39 to 0.46 ± 0.06"
    assert equal("D4", "", np.ones(100), np.ones(100) + 1e-3, margin=0.1).measured == "1.0e-03 apart at most"
    assert not true("X5", "", False, "other bits", "the same bits").holds


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (0.98765, "0.988"),
        (-0.5, "-0.5"),
        (39760, "39,760"),
        (1e-4, "1.0e-04"),
        (2.5e7, "2.5e+07"),
        (10.3, "10.3"),
    ],
)
def test_numbers_have_three_digits_that_count(value, said):
    assert number(value) == said

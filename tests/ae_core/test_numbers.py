"""How numbers are printed."""

from __future__ import annotations

import pytest

from ae_core import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (0, "0"), (1, "1.00"), (9.994, "9.99"), (9.996, "10.0"), (0.9996, "1.00"),
        (99.96, "100"), (1242.3, "1,242"), (63_249.6, "63,250"), (0.0123456, "0.0123"),
        (3.6e-6, "0.00000360"), (-2.345, "-2.35"),
    ],
)  # fmt: skip
def test_three_digits_and_no_exponent(value, text):
    assert numbers.digits(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_printed_as_one(value):
    with pytest.raises((ValueError, OverflowError)):
        numbers.digits(value)


def test_units_stand_apart_and_times_do_not():
    assert numbers.with_unit(4.6, "s") == "4.60 s"
    assert numbers.with_unit(50_000, "images") == "50,000 images"
    assert numbers.with_unit("4.6", "s") == "4.6 s"
    assert numbers.with_unit(751_875, "") == "751,875"
    assert numbers.with_unit(None, "s") == numbers.times(None) == numbers.percent(None) == ""
    assert numbers.times(2.4666) == "2.47x"


def test_a_range_of_one_number_is_that_number():
    assert numbers.between(1.69, 1.691) == "1.69"
    assert numbers.between(0.279, 0.281) == "0.279 to 0.281"


def test_shares_are_percent():
    assert numbers.percent(0.5) == "50.0 %"
    assert numbers.percent(0.12345, 1) == "12.3 %"
    assert numbers.mean_percent([0.6891]) == "68.91 %"
    assert numbers.mean_percent([0.5, 0.6, 0.7]) == "60.00 ± 10.00 % (n = 3)"


def test_a_printed_number_keeps_its_digits():
    assert [numbers.grouped(n) for n in ("22934.00", "2,187", "0.010", "1.2e-5", "7.39")] == [
        "22,934.00", "2,187", "0.010", "1.2e-5", "7.39",
    ]  # fmt: skip

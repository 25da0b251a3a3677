"""How numbers read."""

import math

import pytest

from cutaway.evidence.measurement import Measurement
from cutaway.report import numbers

FULL = Measurement(0.4121, 0.385, 0.441, 0.0031, 0.0213, 0.0025, 1200)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.500"),
        (12.345, "12.3"),
        (-1234.0, "−1,230"),
        (999.96, "1,000"),
        (0.0, "0"),
        (-0.0, "0"),
        (0.00123456, "0.00123"),
        (0.0000120001, "1.20e−5"),
        (-2.5e7, "−2.50e7"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
    ],
)
def test_a_number_has_three_significant_digits(value, text):
    assert numbers.number(value) == text


def test_a_whole_measurement_reads_in_one_order():
    assert numbers.measured(FULL) == "0.412 [0.385, 0.441]; null 0.003 ± 0.021, p = 0.0025, n = 1,200"


def test_what_was_not_measured_is_left_out():
    assert numbers.measured(Measurement(3.0)) == "3.00"
    assert numbers.measured(Measurement(3.0, n=4)) == "3.00; n = 4"


def test_an_interval_shares_the_decimals_of_its_largest_number():
    assert numbers.estimate(Measurement(-0.184, -0.31, -0.06)) == "−0.184 [−0.310, −0.060]"
    assert numbers.estimate(Measurement(-0.0001, -12.0, 3.0)) == "0.0 [−12.0, 3.0]"
    assert numbers.estimate(Measurement(1.0, -math.inf, 2.0)) == "1.00 [−∞, 2.00]"


def test_a_constant_null_and_a_tiny_one():
    assert numbers.context(Measurement(1.0, null_mean=0.5, null_std=0.0)) == "null 0.500 ± 0"
    assert numbers.context(Measurement(1.0, null_mean=0.5)) == "null 0.500"
    assert numbers.context(Measurement(1.0, null_mean=4.1e-4, null_std=3.8e-4)) == "null 4.10e−4 ± 3.8e−4"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0025, "0.0025"), (0.0009, "9.0e−4"), (1.0, "1.0"), (0.61, "0.61"), (1e-12, "1.0e−12")]
)
def test_a_p_value_has_two_digits(value, text):
    assert numbers.probability(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.002, "< 0.1 s"), (4.24, "4.2 s"), (59.97, "1 min 00 s"), (812.3, "13 min 32 s"), (7510.0, "2 h 05 min")],
)
def test_a_duration_has_a_persons_units(seconds, text):
    assert numbers.duration(seconds) == text


def test_shares_and_counts():
    assert numbers.share(0.1234) == "12.3 %"
    assert numbers.count(134515008) == "134,515,008"

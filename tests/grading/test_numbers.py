"""Exact numbers."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astro.grading.magnitude import LARGEST, size
from astro.grading.numbers import number, same_number

VALUES = [
    ("073", 73),
    ("27.0", 27),
    ("1,000", 1000),
    ("1 000", 1000),
    (".5", Fraction(1, 2)),
    ("-\\frac{1}{2}", Fraction(-1, 2)),
    ("3 1/2", Fraction(7, 2)),
    ("-4\\frac{4}{9}", Fraction(-40, 9)),
    ("28%", Fraction(28, 100)),
    ("6.72 \\times 10^{-5}", Fraction(672, 10**7)),
    ("1e3", 1000),
    ("0,111", Fraction(111, 1000)),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_value(text, value):
    assert number(text).value == value


@pytest.mark.parametrize(
    "text", ["", "-", "1,00", "1 2", "4 4/0", "11 7/6", "1/0", "1.2.3", "1e99999", "9" * 500, "x", "0x10", "1_000"]
)
def test_no_number(text):
    assert number(text) is None


@given(st.fractions(), st.fractions())
def test_fractions_are_the_same_number_if_and_only_if_equal(a, b):
    written = [number(f"{'-' if f < 0 else ''}\\frac{{{abs(f.numerator)}}}{{{f.denominator}}}") for f in (a, b)]
    assert same_number(*written) == (a == b)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**6), max_value=10**6))
def test_decimals_differ_in_their_last_place(d):
    text = f"{d:f}"
    other = f"{d + d.__class__('1e-9'):f}"
    assert not same_number(number(text), number(other))
    assert same_number(number(text), number(text + "00"))


def test_size_sees_what_is_never_worked_out():
    from sympy import Integer, Pow, factorial

    nine = Integer(9)
    assert size(Pow(nine, Pow(nine, nine, evaluate=False), evaluate=False)) > LARGEST
    assert size(factorial(Integer(10) ** 9, evaluate=False)) > LARGEST
    assert size(Pow(2, 2005, evaluate=False)) < LARGEST

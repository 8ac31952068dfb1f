"""Arithmetic on text that a model wrote: exact, bounded, and never executed."""

import time
from fractions import Fraction

import pytest

from astro.tasks.countdown.expression import MAX_CHARACTERS, MAX_DEPTH, ExpressionError, evaluate

VALUES = [
    # one number is an expression
    ("7", 7, [7]),
    # products before sums
    ("2 + 3 * 4", 14, [2, 3, 4]),
    # brackets before products
    ("( 2 + 3 ) * 4", 20, [2, 3, 4]),
    # left association of - and of /
    ("9 - 4 - 3", 2, [9, 4, 3]),
    ("24 / 4 / 3", 2, [24, 4, 3]),
    ("12 / 2 * 3", 18, [12, 2, 3]),
    # a fraction on the way is exact: floats give 23.999999999999996 here
    ("8 / ( 3 - 8 / 3 )", 24, [8, 3, 8, 3]),
    # a fraction at the end stays one
    ("1 / 3", Fraction(1, 3), [1, 3]),
    # a sum of thirds is exactly one
    ("1 / 3 + 1 / 3 + 1 / 3", 1, [1, 3] * 3),
    # a result may be negative or zero
    ("3 - 5", -2, [3, 5]),
    ("3 - 3", 0, [3, 3]),
    # spaces mean nothing, nor do redundant brackets
    ("((3)+(4))*2", 14, [3, 4, 2]),
    ("  3+4 ", 7, [3, 4]),
    # signs in print: minus, times, middle dot, division
    ("9 − 4", 5, [9, 4]),
    ("3 × 4", 12, [3, 4]),
    ("3 · 4", 12, [3, 4]),
    ("8 ÷ 2", 4, [8, 2]),
    # leading zeros do not make another number
    ("007 + 1", 8, [7, 1]),
    # division by zero has no value, whatever is done with it, but the numbers are read
    ("1 / 0", None, [1, 0]),
    ("0 / 0 * 5", None, [0, 0, 5]),
    ("7 / ( 4 - 4 ) + 1", None, [7, 4, 4, 1]),
    ("5 - 1 / ( 2 - 2 )", None, [5, 1, 2, 2]),
]


@pytest.mark.parametrize(("text", "value", "numbers"), VALUES)
def test_values_are_exact(text, value, numbers):
    assert evaluate(text) == (value, numbers)


def test_brackets_are_followed_to_the_limit():
    deepest = "(" * MAX_DEPTH + "5" + ")" * MAX_DEPTH
    assert evaluate(deepest) == (5, [5])
    with pytest.raises(ExpressionError, match="deeper"):
        evaluate(f"({deepest})")


def test_length_is_followed_to_the_limit():
    assert evaluate("1+" * (MAX_CHARACTERS // 2 - 1) + "1")[0] == MAX_CHARACTERS // 2
    with pytest.raises(ExpressionError, match="longer"):
        evaluate("1+" * (MAX_CHARACTERS // 2) + "1")


HOSTILE = [
    # code
    "__import__('os').system('true')",
    "exec('1')",
    "lambda: 1",
    # powers, which could fill the memory
    "9**9**9",
    "9^9",
    # ten thousand characters: of digits, of brackets, of operators
    "9" * 10_000,
    "(" * 10_000,
    "(" * 5_000 + "1" + ")" * 5_000,
    "1" + "+1" * 5_000,
    # brackets within the length limit that would exhaust a naive stack
    "(" * 400,
    # a number with more than nine digits (two numbers in a row)
    "1234567890",
    # null bytes, line ends inside, a letter, a name, a comma, decimals, exponents
    "3\x00+4",
    "\x00",
    "x",
    "3,4",
    "3.5 + 1",
    "1e3",
    # unary signs are no part of the game
    "-3 + 4",
    "+7",
    "3 * -4",
    # digits that are not ASCII: int() would read them
    "٣ + ٤",
    "２ + ３",
    "2²",
    # lone surrogate, zero width space, full-width bracket
    "\ud800",
    "3\u200b+4",
    "（3）",
    # nothing, and almost nothing
    "",
    "   ",
    "()",
    "+",
    # cut or doubled
    "3 +",
    "( 3 + 4",
    "3 + 4 )",
    "3 4",
    "3 + + 4",
    "( 3 ) ( 4 )",
    "3 / / 4",
    # an equation is no expression
    "3 + 4 = 7",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: ascii(t[:20]))
def test_hostile_text_is_refused_at_once(text):
    began = time.perf_counter()
    with pytest.raises(ExpressionError):
        evaluate(text)
    assert time.perf_counter() - began < 1


def test_large_products_stay_small_enough_to_be_exact():
    """The length limit bounds the work: the largest product that fits has a few hundred digits."""
    text = "*".join(["999999999"] * (MAX_CHARACTERS // 10))
    assert evaluate(text)[0] == 999_999_999 ** (MAX_CHARACTERS // 10)

"""Exact numbers as people write them: 27.0, 073, 1,000, 3 1/2, -\\frac{1}{2}, 28%, 6.7 \\times 10^{-5}. No sympy, no floats."""

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 400
"""Digits of a number that are read: arithmetic on longer ones costs more than an answer may."""

MAX_EXPONENT = 400

APPROXIMATE_PLACES = 6
"""A decimal stands for an exact value only if it has that many places and significant digits, and is its rounding."""

FLOAT_DIGITS = 16
"""Significant digits of a decimal that floating-point arithmetic has printed; or one more."""


@dataclass(frozen=True)
class Number:
    """A number and how it was written."""

    value: Fraction
    places: int | None = None
    """Digits after the point; None: written exactly (an integer, a fraction)."""
    digits: int = 0
    """Significant digits of a decimal."""
    percent: bool = False


_INT = r"(?:[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?: \d{3})+|\d+)"
_DECIMAL = re.compile(rf"({_INT}|)\.(\d*)")
_INTEGER = re.compile(_INT)
_FRACTION = re.compile(rf"\\frac\{{ *(-?) *({_INT}) *\}}\{{ *(-?) *({_INT}) *\}}|({_INT}) */ *(-?)({_INT})")
_MIXED = re.compile(rf"({_INT}) *(?:\\frac\{{ *(\d+) *\}}\{{ *(\d+) *\}})|({_INT}) +(\d+) */ *(\d+)")
_POWER_OF_TEN = r"(?:\\times|\\cdot|\*|x) *10 *\^ *(?:\{ *([+-]?\d+) *\}|([+-]?\d+))"
_SCIENTIFIC = re.compile(rf"(\d+(?:\.\d*)?|\.\d+) *(?:{_POWER_OF_TEN}|[eE]([+-]?\d+))")
REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar|dot) *\{? *(\d+) *\}?")
"""A decimal with its period under a line."""
_COMMA_DECIMAL = re.compile(r"(\d+),(\d+)")


def number(text: str) -> Number | None:
    """The number that a cleaned text is as a whole; None: it is none."""
    text = text.strip()
    if not text or len(text) > MAX_DIGITS or not any(s.isdigit() for s in text):
        return None
    percent = text.endswith("%")
    if percent:
        text = text[:-1].rstrip()
    negative = False
    if text[:1] in "+-":
        negative, text = text[0] == "-", text[1:].lstrip()
    if len(text) > 2 and text[0] == "(" and text[-1] == ")" and "," not in text:
        text = text[1:-1].strip()
        if text[:1] in "+-":
            negative, text = negative != (text[0] == "-"), text[1:].lstrip()
    found = _unsigned(text)
    if found is None:
        return None
    value = found.value / 100 if percent else found.value
    return Number(-value if negative else value, found.places, found.digits, percent)


def _unsigned(text: str) -> Number | None:
    if _INTEGER.fullmatch(text):
        return Number(Fraction(_int(text)))
    if re.fullmatch(r"0,\d{3,}", text):  # no list of numbers is written so, and no thousands begin with 0
        text = text.replace(",", ".")
    found = _DECIMAL.fullmatch(text)
    if found and (found.group(1) or found.group(2)):
        return _decimal(_plain(found.group(1)), found.group(2))
    found = REPEATING.fullmatch(text)
    if found:
        return Number(repeating(*found.groups()))
    found = _FRACTION.fullmatch(text)
    if found:
        minus, top, minus_too, bottom, top_flat, minus_flat, bottom_flat = found.groups()
        below = _int(bottom or bottom_flat)
        if below == 0:
            return None
        sign = -1 if bool(minus) != bool(minus_too or minus_flat) else 1
        return Number(sign * Fraction(_int(top or top_flat), below))
    found = _MIXED.fullmatch(text)
    if found:
        whole, top, below = (_int(g) for g in found.groups() if g is not None)
        return Number(whole + Fraction(top, below)) if 0 <= top < below else None
    found = _SCIENTIFIC.fullmatch(text)
    if found:
        power = int((found.group(2) or found.group(3) or found.group(4))[:6])
        if abs(power) > MAX_EXPONENT:
            return None
        before, _, places = found.group(1).partition(".")
        mantissa = _decimal(before, places)
        return Number(mantissa.value * Fraction(10) ** power, max(0, len(places) - power), mantissa.digits)
    return None


def repeating(whole: str, fixed: str, period: str) -> Fraction:
    """The value of a decimal whose last digits, the period, repeat without end."""
    above = int((whole + fixed + period) or "0") - int((whole + fixed) or "0")
    return Fraction(above, (10 ** len(period) - 1) * 10 ** len(fixed))


def _plain(digits: str) -> str:
    return digits.replace(",", "").replace(" ", "")


def _int(digits: str) -> int:
    return int(_plain(digits))


def _decimal(whole: str, places: str) -> Number:
    value = Fraction(int((whole + places) or "0"), 10 ** len(places))
    return Number(value, len(places), len((whole + places).lstrip("0")))


def comma_decimal(text: str) -> Number | None:
    """Of "1000,99", read with a decimal comma; None: it is not of that form."""
    negative, text = text.startswith("-"), text.removeprefix("-")
    found = _COMMA_DECIMAL.fullmatch(text.strip())
    if not found or len(text) > MAX_DIGITS:
        return None
    read = _decimal(found.group(1), found.group(2))
    return Number(-read.value if negative else read.value, read.places, read.digits)


def same_number(gold: Number, given: Number) -> bool:
    """Is `given` the number `gold`?

    Percent: 28% is 0.28, and 28 too where one side gives the sign and the other leaves it to the question; but a bare 0.28 is
    not 28, and 0.5% is not 0.5 (nobody asks for a share in percent and means that).
    """
    if gold.value == given.value or _float_of(gold, given.value) or _float_of(given, gold.value):
        return True
    if gold.percent != given.percent:
        whole_gold, whole_given = (n.value * 100 if n.percent else n.value for n in (gold, given))
        if whole_gold == whole_given and abs(whole_gold) >= 1:
            return True
    return stands_for(gold, given.value) or stands_for(given, gold.value)


def means_exact(decimal: Number) -> bool:
    """Has a decimal enough places to stand for a value that it only rounds? 0.333333 has, 0.33 has not."""
    return decimal.places is not None and min(decimal.places, decimal.digits) >= APPROXIMATE_PLACES


def _float_of(printed: Number, exact: Fraction) -> bool:
    """Is it the value as binary floating point prints it, some steps of rounding off: 0.30000000000000004 for 0.3?"""
    as_printed = printed.places is not None and FLOAT_DIGITS <= printed.digits <= FLOAT_DIGITS + 1
    return as_printed and abs(printed.value - exact) <= abs(exact) / 2**50


def stands_for(decimal: Number, exact: Fraction) -> bool:
    """Is the decimal a rounding of the exact value, to enough places to mean it?"""
    if not means_exact(decimal):
        return False
    scale = 100 if decimal.percent else 1
    return abs(decimal.value - exact) * scale <= Fraction(1, 2 * 10 ** (decimal.places or 0))

"""Formulas, with math-verify's parser and comparison and with sympy. Runs only in workers: any of it may hang or grow.

math-verify's own verdict is not the last word, in either direction (docs/grading.md has the cases):
- It rounds to six places, so small numbers are all equal; and it lets some unequal equations pass. Where both formulas have
  values, these are compared at points, to 50 digits, and a difference there overrules it.
- It calls some equal formulas unequal, which agree at all points tried: those are equal here.
"""

import functools
import re
from collections.abc import Iterable
from fractions import Fraction

import sympy
from latex2sympy2_extended import NormalizationConfig, normalize_latex
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
from math_verify import verify
from math_verify.grader import should_treat_as_complex

from astro.grading import sets
from astro.grading.brackets import Malformed, cut
from astro.grading.magnitude import LARGEST, size
from astro.grading.numbers import FLOAT_DIGITS, REPEATING, repeating
from astro.grading.parse import Value

DIGITS = 60
AGREE = 50
"""Digits that must agree. Famous near misses (e^(pi sqrt 163)) agree to 30."""

POINTS = 7
NEEDED = 3
"""Points of those tried at which both formulas must have a real value for them to speak for the whole."""

_NORMAL = NormalizationConfig(basic_latex=True, units=False, malformed_operators=False, nits=False, boxed="none")
_CONVERSION = ConversionConfig(lowercase_symbols=False)
_DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)(?!\d|\.)")
_GOES_ON = re.compile(r"(\d{0,30})\.(\d{0,30}?)(\d{1,6}?)\3{2,20} *(?:\.\.\.|\\ldots)")
"""0.333...: digits that come three times and go on."""
_POWER = re.compile(r"(\d{1,100}) *\^ *\{? *(\d{1,100}) *\}?")
_FACTORS = (
    re.compile(r"(?<=\d)()\s*(?=\\binom)|(?<=\))\s*(?=[\d(]|\\(?:binom|frac)(?![a-z]))"),
    re.compile(r"(?<![_\d.])(\d+)\s*(?=\()"),
)
_AFTER_BINOMIAL = re.compile(r"(\\binom *\{[^{}]*\} *\{[^{}]*\})\s*(?=[\d(]|\\(?:binom|frac|sqrt)(?![a-z]))")
"""Factors side by side that the parser adds, as in a mixed number: 3\\binom{4}{2} is 9 to it, (2)(3) is 5."""
_DIGITS_OF_BASE = re.compile(r"(\d+) *_ *\{? *(\d+) *\}?")


class Unreadable(Exception):
    """Well-formed as far as is seen, but not a formula that sympy can hold. Such texts are compared as texts."""


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> sympy.Basic | sympy.MatrixBase:
    """A formula as math-verify's parser reads it, with exact decimals and letters in their case.

    Raises:
        Unreadable: it cannot be parsed.
    """
    if r"\bmod" in text:
        return _remainder(text)
    text = REPEATING.sub(_repeating, _GOES_ON.sub(r"\1.\2\\overline{\3}", text))
    text = _DECIMAL.sub(lambda m: rf"{{\frac{{{int(m.group(1) + m.group(2))}}}{{{10 ** len(m.group(2))}}}}}", text)
    text = re.sub(r"\\text *\{ *([a-zA-Z]) *\}", r"\1", text)
    for added in _FACTORS:
        text = added.sub(r"\1 \\cdot ", text)
    text = _AFTER_BINOMIAL.sub(r"\1 \\cdot ", text)
    text = re.sub(
        r"\^ *(?:\{ *\\circ *\}|\\circ)", r"\\cdot\\frac{\\pi}{180}", text
    )  # inside a formula: \sin(90^\circ - x)
    if not text.isascii() or r"\text" in text or _DIGITS_OF_BASE.search(text):
        raise Unreadable(text)
    try:
        found = latex2sympy(
            normalize_latex(text, _NORMAL),
            is_real=not should_treat_as_complex(text),
            convert_degrees=False,
            normalization_config=None,
            conversion_config=_CONVERSION,
        )
        if isinstance(found, sympy.Basic):
            i = [s for s in found.free_symbols if s.name == "i"]
            found = found.subs(dict.fromkeys(i, sympy.I)) if i else found
            found = found.replace(_odd_root, _real_root)
        too_large = size(found) > LARGEST
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        raise Unreadable(text) from error
    if too_large:
        raise Unreadable(text)
    return found


def _odd_root(part: sympy.Basic) -> bool:
    """Is it a cube root, fifth root, ... of a negative number? It is meant as the real one."""
    return (
        isinstance(part, sympy.Pow)
        and part.base.is_Rational is True
        and part.base < 0
        and part.exp.is_Rational is True
        and part.exp.q % 2 == 1
        and part.exp.q > 1
    )


def _real_root(power: sympy.Basic) -> sympy.Expr:
    base, exponent = power.args
    return (-1) ** exponent.p * (-base) ** exponent


def _remainder(text: str) -> sympy.Basic:
    """17 mod 5, and of powers that are too large to be worked out, too."""
    try:
        pieces, signs = cut(text, frozenset((r"\bmod",)))
    except Malformed as error:
        raise Unreadable(text) from error
    if len(signs) != 1 or not all(pieces):
        raise Unreadable(text)
    power = _POWER.fullmatch(pieces[0])
    if power and pieces[1].isdigit() and int(pieces[1]):
        return sympy.Integer(pow(int(power[1]), int(power[2]), int(pieces[1])))
    one, other = (parse(piece) for piece in pieces)
    if not (isinstance(one, sympy.Expr) and isinstance(other, sympy.Expr)) or other == 0:
        raise Unreadable(text)
    return sympy.Mod(one, other)


def _repeating(found: re.Match) -> str:
    value = repeating(*found.groups())
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


class SympyFormulas:
    """`astro.grading.compare.Formulas` with sympy."""

    def check(self, text: str) -> None:
        """As the protocol. Texts that sympy cannot read pass: they are compared as texts."""
        _sound(text)

    def same(self, gold: str, given: str) -> bool:
        """As the protocol."""
        if _compact(gold) == _compact(given):
            return True
        if "'" in gold or "'" in given:  # the parser drops primes
            return False
        try:
            one, other = parse(gold), parse(given)
        except Unreadable:
            return False
        return same_expression(one, other)

    def rounds_to(self, text: str, value: Fraction, places: int) -> bool:
        """As the protocol."""
        try:
            found = parse(text)
        except Unreadable:
            return False
        if not _is_scalar(found) or found.free_symbols:
            return False
        exact = found.doit().evalf(DIGITS)
        places = min(places, max(places - 1, FLOAT_DIGITS - 1))  # the last digit of a printed float may be off
        if not exact.is_real or not _has_value(exact):
            return False
        return bool(
            abs(exact - sympy.Rational(value.numerator, value.denominator)) <= sympy.Rational(1, 2 * 10**places)
        )

    def near(self, text: str, value: Fraction) -> bool:
        """As the protocol; an angle may be said in degrees."""
        try:
            found = parse(text)
        except Unreadable:
            return True
        exact = found.doit().evalf(DIGITS) if _is_scalar(found) and not found.free_symbols else None
        if exact is None or not exact.is_real or not _has_value(exact):
            return True
        said = sympy.Rational(value.numerator, value.denominator)
        return any(bool(abs(e - said) * 50 <= abs(e)) for e in (exact, exact * 180 / sympy.pi))

    def same_equation(self, gold: tuple[str, str], given: tuple[str, str], sign: str) -> bool:
        """Left minus right of one is a constant times that of the other; a positive constant where the sign has a direction."""
        try:
            one, other = (parse(f"({a})-({b})") for a, b in (gold, given))
        except Unreadable:
            return False
        if not _is_scalar(one) or not _is_scalar(other):
            return False
        one, other = one.doit(), other.doit()
        names = _matched(one, other)
        if names is None or not names:
            return False
        factor = _constant_ratio(one, other, names)
        if factor is None and sign == "=":  # y = 1/x is xy = 1
            top, other_top = (sympy.together(side).as_numer_denom()[0] for side in (one, other))
            factor = _constant_ratio(top, other_top, names)
        return factor is not None and (sign in ("=", r"\ne") or factor > 0)

    def same_set(self, gold: Value, given: Value) -> bool:
        """As the protocol."""
        if sets.same_named(gold.text, given.text):
            return True
        try:
            return sets.same_set(gold, given, parse)
        except (Unreadable, NotImplementedError, TypeError, ValueError):
            return False  # sympy cannot solve it

    def same_family(self, gold: str, given: str, letter: str) -> bool:
        """As the protocol."""
        try:
            one, other = parse(gold), parse(given)
        except Unreadable:
            return False
        names = [s for s in one.free_symbols | other.free_symbols if s.name == letter]
        if not (_is_scalar(one) and _is_scalar(other)) or not names:
            return False
        whole = sympy.Symbol(letter)
        one, other = (sympy.expand(side.subs(dict.fromkeys(names, whole))) for side in (one, other))
        steps = [side.coeff(whole, 1) for side in (one, other)]
        starts = [sympy.simplify(side - step * whole) for side, step in zip((one, other), steps, strict=True)]
        if any(part.has(whole) for part in (*steps, *starts)) or not steps[0]:
            return False
        between = sympy.simplify((starts[0] - starts[1]) / steps[0])
        return bool(sympy.simplify(steps[0] ** 2 - steps[1] ** 2) == 0 and between.is_integer)


def _compact(text: str) -> str:
    return re.sub(r"\s+", "", text)


@functools.lru_cache(maxsize=4096)
def _sound(text: str) -> None:
    try:
        found = parse(text)
    except Unreadable:
        return
    if isinstance(found, sympy.Expr) and not isinstance(found, sympy.MatrixExpr):
        bad = (sympy.nan, sympy.zoo)
        if found.has(*bad) or _value_has(found, bad):
            raise Malformed("no value")


def _value_has(found: sympy.Expr, bad: tuple) -> bool:
    """Has its value a division by zero in it? Values of integrals and limits are not worked out for that."""
    if found.has(sympy.Integral, sympy.Limit, sympy.Sum, sympy.Product) or found.free_symbols:
        return any(power.base.is_zero for power in found.atoms(sympy.Pow) if power.exp.is_negative)
    return found.doit().evalf(15).has(*bad)


# --- expressions -------------------------------------------------------------------------------------------------------


def same_expression(gold: sympy.Basic, given: sympy.Basic) -> bool:
    """Equal at every point tried; where that says nothing, as math-verify finds."""
    if isinstance(gold, sympy.MatrixBase | sympy.MatrixExpr) or isinstance(given, sympy.MatrixBase | sympy.MatrixExpr):
        return _same_matrix(gold, given)
    if _is_scalar(gold) and _is_scalar(given):
        gold, given = gold.doit(), given.doit()
        names = _matched(gold, given)
        if names is None:
            return False
        by_value = _agree(gold, given, names)
        if by_value is not None:
            return by_value
    elif _is_scalar(gold) or _is_scalar(given):
        return False
    return bool(verify(gold, given, timeout_seconds=None))


def _is_scalar(found: object) -> bool:
    return isinstance(found, sympy.Expr) and not isinstance(found, sympy.MatrixExpr)


def _same_matrix(gold: sympy.Basic, given: sympy.Basic) -> bool:
    gold, given = (m.doit() if hasattr(m, "doit") else m for m in (gold, given))
    if not (isinstance(gold, sympy.MatrixBase) and isinstance(given, sympy.MatrixBase)) or gold.shape != given.shape:
        return False
    return all(same_expression(a, b) for a, b in zip(gold.flat(), given.flat(), strict=True))


def _matched(gold: sympy.Expr, given: sympy.Expr) -> dict[sympy.Symbol, str] | None:
    """Each variable's name, the same for both; None: their variables differ.

    Case is overlooked only where that makes no two variables of one formula the same.
    """
    one, other = gold.free_symbols, given.free_symbols
    if {s.name for s in one} == {s.name for s in other} or not one or not other:
        return {s: s.name for s in one | other}
    lower = [{s.name.lower() for s in symbols} for symbols in (one, other)]
    if lower[0] == lower[1] and len(lower[0]) == len({s.name for s in one}) == len({s.name for s in other}):
        return {s: s.name.lower() for s in one | other}
    return {s: s.name for s in one | other}  # x - x + 1 has a variable and is 1


def _points(names: Iterable[str], whole: bool) -> list[dict[str, sympy.Rational]]:
    """Where formulas are compared: fixed points of either sign, whole ones where the formula counts something."""
    names = sorted(set(names))
    points = []
    for number in range(POINTS):
        sign = -1 if number % 3 == 2 and not whole else 1
        points.append(
            {
                name: sympy.Integer(2 + (number + 3 * place) % 11)
                if whole
                else sympy.Rational(sign * (17 + 13 * number + 29 * place * (number + 1) + 7 * place), 23 + 2 * place)
                for place, name in enumerate(names)
            }
        )
    return points


def _agree(gold: sympy.Expr, given: sympy.Expr, names: dict[sympy.Symbol, str]) -> bool | None:
    """Do two formulas have the same value at all points where both have one? None: there are too few such points."""
    if not names:
        one, other = gold.doit(), given.doit()
        if one.is_Rational and other.is_Rational:  # 10^100 is not 10^100 + 1
            return bool(one == other)
        one, other = gold.evalf(DIGITS), given.evalf(DIGITS)
        return (
            _close(one, other) if one.is_number and other.is_number and _has_value(one) and _has_value(other) else None
        )
    counting = (sympy.Sum, sympy.Product, sympy.factorial, sympy.binomial, sympy.Mod)
    found = 0
    for point in _points(names.values(), gold.has(*counting) or given.has(*counting)):
        at = {symbol: point[name] for symbol, name in names.items()}
        one, other = gold.subs(at).doit().evalf(DIGITS), given.subs(at).doit().evalf(DIGITS)
        if not (one.is_number and other.is_number):
            return None
        if _has_value(one) != _has_value(other) and one.is_real is not False and other.is_real is not False:
            return False
        if not (_has_value(one) and _has_value(other)):
            continue
        complex_point = one.is_real is False or other.is_real is False
        if complex_point and not gold.has(sympy.I) and not given.has(sympy.I):  # a root of a negative number
            continue
        if not _close(one, other):
            return False
        found += 1
    return True if found >= NEEDED else None


def _has_value(number: sympy.Expr) -> bool:
    return not number.has(sympy.nan, sympy.zoo) and (number.is_finite is not False or number in (sympy.oo, -sympy.oo))


def _close(one: sympy.Expr, other: sympy.Expr) -> bool:
    if one == other:
        return True
    if one in (sympy.oo, -sympy.oo) or other in (sympy.oo, -sympy.oo):
        return False
    difference = abs(one - other)
    size = max(abs(one), abs(other), key=lambda v: sympy.Float(v, 20))
    return bool(difference <= size * sympy.Float(10, DIGITS) ** -AGREE)


def _constant_ratio(one: sympy.Expr, other: sympy.Expr, names: dict[sympy.Symbol, str]) -> sympy.Expr | None:
    """The constant that makes one the other at all points; None: there is none."""
    ratio, found = None, 0
    for point in _points(names.values(), whole=False):
        at = {symbol: point[name] for symbol, name in names.items()}
        a, b = one.subs(at).evalf(DIGITS), other.subs(at).evalf(DIGITS)
        if (
            not (a.is_number and b.is_number and _has_value(a) and _has_value(b))
            or a.is_real is False
            or b.is_real is False
        ):
            continue
        if a == 0 or b == 0:
            return None
        if ratio is None:
            ratio = a / b
        elif not _close(a / b, ratio):
            return None
        found += 1
    return ratio if found >= NEEDED else None

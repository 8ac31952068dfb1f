"""Checks the equalities inside a reasoning step: true, false, or not checkable. A process signal beside the final grade.

    check_steps([("So $3 + 4 = 8$ and $x = 8$.", "What is x?")])      # [StepChecks(true=0, false=1, unchecked=1)]

True: both sides are equal for all values of their letters. False: both are numbers, and differ, and nothing speaks for
another meaning. A definition, an equation to solve, a rounded decimal, notation outside the grammar of
`astro.grading.algebra`: not checkable. "False" is meant to be rare and right, "not checkable" is common.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from astro.grading.api import default_pool
from schemas.records import StepChecks

if TYPE_CHECKING:
    import sympy

    from astro.grading.algebra import Side

CHECK = "astro.grading.steps:check_text"
VALUE = "astro.grading.steps:value_of"

ROUNDED = 0.01
"""Where a decimal fraction is in play, sides that differ by less than this share may be rounded."""

_UNFOLDED = re.compile(r"\b(?:expand|factor|distribut|multiply(?:ing)? out|foil)", re.IGNORECASE)
_BOTH_SIDES = re.compile(r"both sides|equation|solv|substitut|set(?:ting)?\b|equal to|let\b|if\b", re.IGNORECASE)


def check_steps(steps: Sequence[tuple[str, str]]) -> list[StepChecks]:
    """The checks of (step, problem) pairs, in order; what overruns the limits of a worker counts as one not checkable."""
    pool = default_pool()
    found = pool.call_batch(CHECK, list(steps))
    # A second try: a limit that a busy machine overran, and not the step, must not show in data that is hashed.
    again = [i for i, counts in enumerate(found) if counts is None]
    for i, counts in zip(again, pool.call_batch(CHECK, [steps[i] for i in again], failed=[0, 0, 1]), strict=True):
        found[i] = counts
    return [StepChecks(true=true, false=false, unchecked=unchecked) for true, false, unchecked in found]


def exact_value(answer: str) -> str | None:
    """An answer's exact number as text, equal for equal numbers however written; None: it is none that can be read."""
    return default_pool().call(VALUE, answer)


# --- in the workers ----------------------------------------------------------------------------------------------------


def check_text(step: str, problem: str = "") -> list[int]:
    """[true, false, not checkable]: how many equalities of the step are so."""
    from astro.grading.stated_equalities import find_equalities

    verdicts = []
    for equality in find_equalities(step, problem):
        verdict = compare(equality.left, equality.right, unfolded=_claims_identity(step))
        verdicts.append("unchecked" if verdict == "false" and equality.doubtful else verdict)
    return [verdicts.count(name) for name in ("true", "false", "unchecked")]


def value_of(answer: str) -> str | None:
    """See `exact_value`."""
    from astro.grading.algebra import Unread, read_side

    try:
        side = read_side(answer.strip().strip("$"))
    except Unread:
        return None
    return str(side.value) if side.value.is_Rational and not side.guessed else None


def compare(left: str, right: str, *, unfolded: bool = False) -> str:
    """ "true", "false" or "unchecked"; unfolded: the text says that one side is the other expanded or factored."""
    import sympy

    from astro.grading.algebra import Unread, read_side

    try:
        a, b = read_side(left), read_side(right)
        difference = a.value - b.value
        if difference.has(sympy.zoo, sympy.nan, sympy.oo):
            return "unchecked"
        if difference.free_symbols:
            return _identity(a.value, b.value, unfolded=unfolded and not (a.guessed or b.guessed))
        if _vanishes(difference):
            return "true"
        if (a.guessed or b.guessed) and _vanishes(
            read_side(left, mixed=True).value - read_side(right, mixed=True).value
        ):
            return "true"
    except (Unread, RecursionError):
        return "unchecked"
    unsure = a.guessed or b.guessed or (a.bare and b.bare) or _may_be_rounded(a, b)
    return "unchecked" if unsure else "false"


def _claims_identity(step: str) -> bool:
    return bool(_UNFOLDED.search(step)) and not _BOTH_SIDES.search(step)


def _identity(left: "sympy.Expr", right: "sympy.Expr", *, unfolded: bool) -> str:
    """Equal for all values of the letters; two polynomials that the text calls the same and that differ are false."""
    import sympy

    difference = sympy.expand(left - right)
    if difference != 0 and not difference.is_polynomial():
        difference = sympy.expand(sympy.fraction(sympy.together(difference))[0])
    if difference == 0:
        return "true"
    letters = left.free_symbols
    same = letters == right.free_symbols and left.is_polynomial(*letters) and right.is_polynomial(*letters)
    if not (unfolded and same):
        return "unchecked"
    # One side must really be unfolded: as high in degree, and a product or power of sums on the one, none on the other.
    shapes = {side == sympy.expand(side) for side in (left, right)}
    degrees = {sympy.Poly(side, *letters).total_degree() for side in (left, right)}
    return "false" if len(shapes) == 2 and len(degrees) == 1 else "unchecked"


def _vanishes(difference: "sympy.Expr") -> bool:
    """Is an exact number zero? Radicals by their first 60 digits."""
    if difference.is_Rational:
        return difference == 0
    return abs(difference.evalf(60, maxn=200)) < 10**-40


def _may_be_rounded(a: "Side", b: "Side") -> bool:
    """A decimal fraction, an irrational number set equal to a rational one, a quotient to a whole one: may be a near value."""
    import sympy

    gap, size = abs(sympy.N(a.value - b.value, 30)), max(abs(sympy.N(a.value, 30)), abs(sympy.N(b.value, 30)))
    decimals = [side.decimals for side in (a, b) if side.decimals is not None]
    if decimals:
        return gap <= max(2 * 10.0 ** -min(decimals), ROUNDED * size)
    whole_quotient = (a.divided or b.divided) and (a.value.is_Integer or b.value.is_Integer)
    irrational = a.value.is_Rational != b.value.is_Rational
    return bool((whole_quotient or irrational) and gap <= max(1, ROUNDED * size))

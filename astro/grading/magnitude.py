"""How large a formula gets while it is worked out, seen before it is: 9^9^9^9 and its like never are."""

import math

import sympy

LARGEST = 3e5
"""Natural logarithm of a number on the way: 130,000 digits. Larger formulas are compared as texts."""

MOST_TERMS = 10**5
"""Of a sum or product between two numbers."""

_VARIABLE = 2.4
_EXP_LIMIT = 25.0


def size(found: object) -> float:
    """Natural logarithm of the largest number on the way to the value, were each variable about 10; infinity: beyond telling."""
    return _measure(found)[1]


def _measure(found: object) -> tuple[float, float]:
    """Logarithms of the absolute value (a bound from above) and of the largest number on the way."""
    if isinstance(found, sympy.MatrixBase):
        entries = [_measure(entry) for entry in found.flat()] or [(0.0, 0.0)]
        return max(e[0] for e in entries), max(e[1] for e in entries)
    if not isinstance(found, sympy.Basic):
        return 0.0, 0.0
    if isinstance(found, sympy.Rational):
        top, bottom = abs(int(found.p)).bit_length(), int(found.q).bit_length()
        return 0.7 * (top - bottom + 1), 0.7 * (top + bottom)
    if not found.args:
        return _VARIABLE, 40.0 if isinstance(found, sympy.Float) else _VARIABLE
    if isinstance(found, sympy.Sum | sympy.Product | sympy.Integral):
        return _ranges(found)
    parts = [_measure(part) for part in found.args]
    values, on_the_way = [p[0] for p in parts], max(p[1] for p in parts)
    if isinstance(found, sympy.Pow):
        value, here = _power(*found.args, *values)
    elif isinstance(found, sympy.exp):
        value = here = _exp(values[0])
    elif isinstance(found, sympy.factorial | sympy.factorial2 | sympy.gamma):
        value = here = max(values[0], 0.7) * _exp(values[0])
    elif isinstance(found, sympy.binomial):
        value = here = max(values[0], 0.7) * _exp(values[1])
    elif isinstance(found, sympy.Mul):
        value = here = sum(values)
    else:
        value = here = max(values) + math.log(len(values))
    return value, max(on_the_way, here)


def _power(base: sympy.Basic, exponent: sympy.Basic, base_value: float, exponent_value: float) -> tuple[float, float]:
    largest = max(abs(base_value), 0.7) * _exp(exponent_value)
    if isinstance(base, sympy.Integer) and isinstance(exponent, sympy.Rational) and exponent < 0:
        return -(base_value - 0.7) * float(abs(exponent)), largest
    return largest, largest


def _exp(exponent: float) -> float:
    return math.exp(exponent) if exponent < _EXP_LIMIT else math.inf


def _ranges(found: sympy.Basic) -> tuple[float, float]:
    largest = size(found.args[0])
    for limits in found.args[1:]:
        ends = [end for end in limits[1:] if isinstance(end, sympy.Basic)]
        largest = max([largest, *(size(end) for end in ends)])
        if isinstance(found, sympy.Integral) or len(ends) < 2 or any(e.free_symbols or e.is_infinite for e in ends):
            continue
        if max(_measure(end)[0] for end in ends) > math.log(MOST_TERMS):
            return math.inf, math.inf
    return largest, largest

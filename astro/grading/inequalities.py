"""Inequalities of one variable as the sets that they describe."""

import re
from fractions import Fraction

from astro.grading.numbers import number
from astro.grading.parse import Value, is_name

_INFINITY = Value("formula", r"\infty")
_MINUS_INFINITY = Value("formula", r"-\infty")
_BELOW, _ABOVE = ("<", r"\le"), (">", r"\ge")


def turned(sign: str) -> str:
    """The sign with its sides exchanged."""
    return {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}.get(sign, sign)


def variable(relation: Value) -> str | None:
    """The one variable that an inequality bounds; None: that is not what it does."""
    if relation.kind == "relation" and len(relation.items) == 2 and _around(relation):
        return next(f.group(1) for f in map(_DISTANCE.fullmatch, (i.text for i in relation.items)) if f)
    names = [
        i.text
        for i in relation.items
        if i.kind == "formula" and is_name(i.text) and r"\infty" not in i.text and r"\pi" not in i.text
    ]
    return names[0] if len(names) == 1 else None


_DISTANCE = re.compile(r"\| *([a-zA-Z]) *(?:([+-]) *(\d+(?:\.\d+)?))? *\|")


def _around(relation: Value) -> Value | None:
    """|x - 3| <= 2 is [1, 5], and |x| > 1 what is left beside [-1, 1]. None: it is not of that form."""
    (one, other), sign = relation.items, relation.signs[0]
    if other.number is None:
        one, other, sign = other, one, turned(sign)
    found = _DISTANCE.fullmatch(one.text)
    if not found or other.number is None or other.number.value <= 0 or sign not in (*_BELOW, *_ABOVE):
        return None
    middle = Fraction(found.group(3) or 0) * (-1 if found.group(2) == "+" else 1)
    low, high = (_exact(middle + side * other.number.value) for side in (-1, 1))
    strict = sign in ("<", ">")
    if sign in _BELOW:
        return _bracket(low, high, "(["[not strict], ")]"[not strict])
    parts = (_bracket(_MINUS_INFINITY, low, "(", ")]"[not strict]), _bracket(high, _INFINITY, "(["[not strict], ")"))
    return Value("union", " \\cup ".join(p.text for p in parts), parts)


def _exact(value: Fraction) -> Value:
    text = str(value.numerator) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    return Value("number", text, number=number(text))


def _bracket(low: Value, high: Value, opening: str, closing: str) -> Value:
    return Value("bracket", f"{opening}{low.text}, {high.text}{closing}", (low, high), signs=(opening, closing))


def solution_set(relation: Value) -> Value | None:
    """The set that an inequality of one bare variable describes: -2 < x <= 7 is (-2, 7]. None: it is not of that form.

    Also of lists of such, as in "x < 1 or x > 2": their union.
    """
    if relation.kind == "list":
        if relation.signs == ("and",) or any(r"\ne" in item.signs for item in relation.items):
            return None
        sets = [solution_set(item) for item in relation.items]
        if not all(sets) or len({variable(item) for item in relation.items}) != 1:
            return None
        return Value("union", r" \cup ".join(s.text for s in sets if s), tuple(s for s in sets if s))
    if relation.kind == "relation" and len(relation.items) == 2:
        around = _around(relation)
        if around is not None:
            return around
    if relation.kind != "relation" or variable(relation) is None:
        return None
    items, signs = relation.items, relation.signs
    if signs == (r"\in",):
        return items[1]
    if signs == (r"\ne",):
        edge = items[1] if items[0].text == variable(relation) else items[0]
        parts = [_bracket(_MINUS_INFINITY, edge, "(", ")"), _bracket(edge, _INFINITY, "(", ")")]
        return Value("union", " \\cup ".join(p.text for p in parts), tuple(parts))
    if not (set(signs) <= set(_BELOW) or set(signs) <= set(_ABOVE)):
        return None
    if signs[0] in _ABOVE:
        items, signs = items[::-1], tuple(turned(s) for s in signs[::-1])
    at = next(i for i, item in enumerate(items) if item.text == variable(relation))
    if len(items) == 3 and at == 1:
        low, high, opens, closes = items[0], items[2], signs[0] == "<", signs[1] == "<"
    elif len(items) == 2 and at == 0:
        low, high, opens, closes = _MINUS_INFINITY, items[1], True, signs[0] == "<"
    elif len(items) == 2:
        low, high, opens, closes = items[0], _INFINITY, signs[0] == "<", True
    else:
        return None
    return _bracket(low, high, "(" if opens else "[", ")" if closes else "]")

"""Sets of numbers worked out with sympy: unions, intersections, differences, set builders, inequalities. Only in workers.

A set is None where it is not one of numbers, or has a letter in it that is not its variable.
"""

import functools
import re
from collections.abc import Callable

import sympy

from astro.grading.parse import Value

Parse = Callable[[str], sympy.Basic]

_NUMBERS = {
    "R": sympy.S.Reals, "Z": sympy.S.Integers, "Q": sympy.S.Rationals, "N": sympy.S.Naturals0,
    "R+": sympy.Interval.open(0, sympy.oo), "Z+": sympy.S.Naturals, "N*": sympy.S.Naturals, "N+": sympy.S.Naturals,
    "Z*": sympy.S.Naturals, "R*": sympy.Complement(sympy.S.Reals, sympy.FiniteSet(0)),
}  # fmt: skip
_NAMED = re.compile(r"\\(?:mathbb *\{ *)?([RZQN])(?: *\})? *(?:[_^] *\{? *([*+]) *\}?)?|([RZQN])")
_RELATIONS = {
    "<": sympy.StrictLessThan,
    r"\le": sympy.LessThan,
    ">": sympy.StrictGreaterThan,
    r"\ge": sympy.GreaterThan,
}
_SIGNS = {r"\cup": sympy.Union, r"\cap": sympy.Intersection, r"\setminus": sympy.Complement}
MAX_WHOLE = 1000
"""Whole numbers of a finite range that are listed."""


def same_set(gold: Value, given: Value, parse: Parse) -> bool:
    """Are two values the same set of numbers?"""
    one, other = as_set(gold, parse), as_set(given, parse)
    if one is None or other is None:
        return False
    names = [{s.name for s in _bound(part, parse)} for part in (gold, given)]
    if all(names) and names[0] != names[1]:
        return False
    if one == other:
        return True
    difference = sympy.SymmetricDifference(one, other)
    return difference == sympy.S.EmptySet or difference.is_empty is True


def _bound(part: Value, parse: Parse) -> set[sympy.Symbol]:
    """The variables that an inequality or a list of them is about."""
    if part.kind == "list":
        return set().union(*(_bound(item, parse) for item in part.items))
    if part.kind != "relation":
        return set()
    if part.signs == (r"\in",):
        return _parsed(part.items[0], parse).free_symbols
    return set().union(*(_parsed(item, parse).free_symbols for item in part.items))


def as_set(part: Value, parse: Parse) -> sympy.Set | None:
    """The set of numbers that a value is, or describes; None: it is none."""
    if part.kind == "bracket":
        return _interval(part, parse)
    if part.kind == "set":
        return _finite(part.items, parse)
    if part.kind == "union":
        found = [as_set(item, parse) for item in part.items]
        signs = part.signs or (r"\cup",) * (len(found) - 1)
        if any(s is None for s in found):
            return None
        return functools.reduce(lambda a, b: _SIGNS[b[0]](a, b[1]), zip(signs, found[1:], strict=True), found[0])
    if part.kind == "list" and all(item.kind == "number" for item in part.items):
        return _finite(part.items, parse)
    if part.kind == "list":
        return _conditions(part.items, part.signs[0] if part.signs else "or", parse, sympy.S.Reals)
    if part.kind == "relation":
        if part.signs == (r"\in",):
            return as_set(part.items[1], parse)
        return _solutions(part, parse, sympy.S.Reals)
    if part.kind == "builder":
        domain = _NUMBERS.get(part.domains[0][1])
        return None if domain is None else _listed(_conditions(part.items, part.signs[0], parse, domain))
    named = _NAMED.fullmatch(part.text.strip())
    if named:
        return _NUMBERS.get((named[1] or named[3]) + (named[2] or ""))
    if part.text.strip() in (r"\emptyset", r"\{\}", "no solution"):
        return sympy.S.EmptySet
    return None


def _value(text: str, parse: Parse) -> sympy.Expr | None:
    found = parse(text)
    if not isinstance(found, sympy.Expr) or found.free_symbols or found.is_extended_real is False:
        return None
    return found


def _interval(part: Value, parse: Parse) -> sympy.Set | None:
    if len(part.items) != 2 or {*part.signs} - set("()[]"):
        return None
    low, high = (_value(_text(item), parse) for item in part.items)
    if low is None or high is None or not low < high:
        return None
    return sympy.Interval(low, high, part.signs[0] == "(", part.signs[1] == ")")


def _text(item: Value) -> str:
    if item.number is None:
        return item.text
    value = item.number.value
    return str(value.numerator) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _finite(items: tuple[Value, ...], parse: Parse) -> sympy.Set | None:
    found = [_value(_text(item), parse) if item.kind in ("number", "formula") else None for item in items]
    return None if any(v is None for v in found) else sympy.FiniteSet(*map(sympy.nsimplify, found))


def _conditions(items: tuple[Value, ...], joined: str, parse: Parse, domain: sympy.Set) -> sympy.Set | None:
    """What fulfils all conditions, or any; joined by commas alone all, unless nothing does."""
    found = [_solutions(item, parse, domain) for item in items]
    if any(s is None for s in found) or not found or len({_letter(item, parse) for item in items}) > 1:
        return None
    if joined == "or":
        return sympy.Union(*found)
    both = sympy.Intersection(*found)
    return sympy.Union(*found) if joined == "" and both.is_empty else both


def _letter(relation: Value, parse: Parse) -> str:
    return ",".join(sorted({s.name for item in relation.items for s in _parsed(item, parse).free_symbols}))


def _parsed(item: Value, parse: Parse) -> sympy.Basic:
    return parse(_text(item))


def _solutions(relation: Value, parse: Parse, domain: sympy.Set) -> sympy.Set | None:
    """The real numbers of the domain that fulfil an equation or inequality in one variable."""
    if relation.kind != "relation":
        return None
    if relation.signs == (r"\in",):
        inside = as_set(relation.items[1], parse)
        return None if inside is None else sympy.Intersection(inside, domain)
    sides = [_parsed(item, parse) for item in relation.items]
    names = {s for side in sides for s in side.free_symbols}
    if len(names) != 1 or not all(isinstance(side, sympy.Expr) for side in sides):
        return None
    if next(iter(names)).name == "z" and any(side.has(sympy.Abs) for side in sides):  # it may be complex
        return None
    real = sympy.Symbol("x", real=True)
    sides = [side.subs(dict.fromkeys(names, real)) for side in sides]
    found: sympy.Set = domain
    for sign, left, right in zip(relation.signs, sides, sides[1:], strict=False):
        if sign in ("=", r"\ne"):
            roots = sympy.solveset(left - right, real, sympy.S.Reals)
            here = roots if sign == "=" else sympy.Complement(sympy.S.Reals, roots)
        elif sign in _RELATIONS:
            condition = _RELATIONS[sign](left, right)
            if condition in (sympy.true, sympy.false):
                here = sympy.S.Reals if condition == sympy.true else sympy.S.EmptySet
            else:
                here = sympy.solve_univariate_inequality(condition, real, relational=False)
        else:
            return None
        found = sympy.Intersection(found, here)
    return found


def _listed(found: sympy.Set | None) -> sympy.Set | None:
    """A finite range of whole numbers as the set of them."""
    if isinstance(found, sympy.Range) and found.is_finite_set and len(found) <= MAX_WHOLE:
        return sympy.FiniteSet(*found)
    return found


# --- sets that have only names ------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"\s+|(?P<name>(?<![a-zA-Z])[A-Z](?![a-z]))|(?P<sign>\\(?:cup|cap|setminus|triangle)(?![a-z]))|(?P<open>\()|(?P<close>\))"
    r"|(?P<bar>\\(?:overline|bar) *\{)|(?P<end>\})|(?P<not>'|\^ *\{ *(?:c|C|\\complement) *\}|\^ *(?:c|C|\\complement))"
)
MAX_NAMES = 5


def same_named(gold: str, given: str) -> bool:
    """Are two expressions of named sets (A cup B) the same whatever the sets are? By all ways in which a thing can be in them."""
    tokens = [_tokens(text) for text in (gold, given)]
    if not all(tokens):
        return False
    names = sorted({value for found in tokens for kind, value in found or () if kind == "name"})
    if not names or len(names) > MAX_NAMES:
        return False
    try:
        for case in range(2 ** len(names)):
            inside = {name: bool(case >> n & 1) for n, name in enumerate(names)}
            if len({_Named(found or [], inside).whole() for found in tokens}) > 1:
                return False
    except ValueError:
        return False
    return True


def _tokens(text: str) -> list[tuple[str, str]] | None:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            return None
        if match.lastgroup:
            found.append((match.lastgroup, match[0].strip()))
        at = match.end()
    return found if any(kind in ("sign", "not", "bar") for kind, _ in found) else None


class _Named:
    """Works an expression of named sets out for one thing. Raises ValueError where it is none."""

    def __init__(self, tokens: list[tuple[str, str]], inside: dict[str, bool]):
        self.tokens, self.inside, self.at = tokens, inside, 0

    def whole(self) -> bool:
        """Is the thing in the set?"""
        value = self.row(0)
        if self.at != len(self.tokens):
            raise ValueError
        return value

    def row(self, depth: int) -> bool:
        """Sets with signs between them; without parentheses only of one sign, since there is no order of them."""
        if depth > 20:
            raise ValueError
        value, signs = self.one(depth), set()
        while self.at < len(self.tokens) and self.tokens[self.at][0] == "sign":
            sign = self.tokens[self.at][1]
            self.at += 1
            other = self.one(depth)
            value = {
                r"\cup": value or other,
                r"\cap": value and other,
                r"\setminus": value and not other,
                r"\triangle": value != other,
            }[sign]
            signs.add(sign)
        if len(signs) > 1:
            raise ValueError
        return value

    def one(self, depth: int) -> bool:
        """A name, or what stands in parentheses or under a bar; with its complement signs."""
        if self.at >= len(self.tokens):
            raise ValueError
        kind, text = self.tokens[self.at]
        self.at += 1
        if kind == "name":
            value = self.inside[text]
        elif kind in ("open", "bar"):
            value = self.row(depth + 1)
            if self.at >= len(self.tokens) or self.tokens[self.at][0] != {"open": "close", "bar": "end"}[kind]:
                raise ValueError
            self.at += 1
            value = value if kind == "open" else not value
        else:
            raise ValueError
        while self.at < len(self.tokens) and self.tokens[self.at][0] == "not":
            value = not value
            self.at += 1
        return value

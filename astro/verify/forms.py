"""One value in the form of another: a point given by its coordinates, a list of inequalities as a set, words as words."""

import re
from collections.abc import Sequence
from fractions import Fraction

from astro.verify.inequalities import solution_set
from astro.verify.numbers import number
from astro.verify.parse import Value
from astro.verify.units import canonical
from astro.verify.words import letters


def compact(text: str) -> str:
    """Without spaces."""
    return re.sub(r"\s+", "", text)


def solved(one: Value, other: Value) -> Value:
    """A list of inequalities as the set that it describes, where the other is a set."""
    if one.kind == "list" and other.kind in ("union", "bracket") and all(i.kind == "relation" for i in one.items):
        return solution_set(one) or one
    return one


def may_be_set(part: Value) -> bool:
    """May a value be the set that an inequality describes?"""
    if part.kind == "list":
        return all(i.kind == "relation" for i in part.items)
    return part.kind in ("bracket", "union", "set") or (part.kind == "formula" and r"\mathbb" in part.text)


def assigned(one: Value, other: Value) -> Value:
    """x = 1, y = 2 as the point (1, 2), where the other is a point: values in the order of their names."""
    if one.kind != "list" or other.kind != "bracket" or other.signs != ("(", ")") or len(one.items) != len(other.items):
        return one
    pairs = {
        i.items[0].text: i.items[-1]
        for i in one.items
        if i.signs == ("=",) and re.fullmatch(r"[a-zA-Z]", i.items[0].text)
    }
    if len(pairs) != len(one.items):
        return one
    return Value("bracket", one.text, tuple(pairs[name] for name in sorted(pairs)), signs=("(", ")"))


def lettered(one: Value, other: Value) -> Value:
    """3 h as a number with a unit, where the other one has that unit: by itself the letter may be a variable."""
    found = (
        re.fullmatch(r"(\S+) ([a-zA-Z])", one.text) if one.kind == "formula" and other.number and other.unit else None
    )
    read_so = number(found.group(1)) if found and canonical(found.group(2)) == other.unit else None
    return Value("number", one.text, number=read_so, unit=other.unit) if read_so else one


def rows(part: Value) -> Value:
    """[[1, 2], [3, 4]] as a matrix."""
    widths = {len(row.items) for row in part.items if row.kind == "bracket" and row.signs == ("[", "]")}
    if (
        part.kind != "bracket"
        or part.signs != ("[", "]")
        or len(widths) != 1
        or any(r.kind != "bracket" for r in part.items)
    ):
        return part
    return Value("matrix", part.text, tuple(i for row in part.items for i in row.items), columns=widths.pop())


def same_ratio(gold: Value, given: Value) -> bool:
    """3:4 is 6:8, and 3/4."""
    if gold.kind != given.kind:
        ratio, single = (gold, given) if gold.kind == "ratio" else (given, gold)
        if len(ratio.items) != 2 or not single.number:
            return False
        return _exact(ratio.items[0]) == single.number.value * _exact(ratio.items[1])
    one, other = ([_exact(i) for i in r.items] for r in (gold, given))
    return len(one) == len(other) and all(a * other[0] == b * one[0] for a, b in zip(one, other, strict=True))


def _exact(side: Value) -> Fraction:
    """The number that a side of a ratio is."""
    assert side.number is not None
    return side.number.value


def distinct(items: Sequence[Value]) -> list[Value]:
    """Without those written the same twice."""
    return list({compact(item.text): item for item in items}.values())


def word(part: Value) -> str | None:
    """Words of a text, or the letters of a formula that is nothing else ("\\text{even}", "E")."""
    if part.kind == "text":
        return part.text
    if part.kind == "list" and all(item.kind == "text" for item in part.items):  # "Friday, June 20"
        return letters(part.text)
    if part.number and part.unit in ("am", "pm"):  # 6 PM is 6:00 PM
        return f"{part.text}:00"
    if part.text in (r"\emptyset", r"\{\}", r"\{ \}"):
        return "no solution"
    plain = re.sub(r"[\s()']+", " ", part.text.lower()).strip()
    return plain if part.kind == "formula" and re.fullmatch(r"[a-z ]+", plain) and "'" not in part.text else None

"""One value in the form of another: a point given by its coordinates, a list of inequalities as a set, words as words."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Literal

from astro.grading.inequalities import solution_set, variable
from astro.grading.numbers import number
from astro.grading.parse import Value, is_name, value
from astro.grading.units import canonical
from astro.grading.words import letters


def compact(text: str) -> str:
    """Without spaces."""
    return re.sub(r"\s+", "", text)


def _solved(one: Value, other: Value) -> Value:
    """A list of inequalities as the set that it describes, where the other is a set."""
    if one.kind == "list" and other.kind in ("union", "bracket") and all(i.kind == "relation" for i in one.items):
        return solution_set(one) or one
    return one


def may_be_set(part: Value) -> bool:
    """May a value be the set that an inequality describes?"""
    if part.kind == "list":
        return all(i.kind == "relation" for i in part.items)
    return part.kind in ("bracket", "union", "set") or (part.kind == "formula" and r"\mathbb" in part.text)


def _assigned(one: Value, other: Value) -> Value:
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


def _lettered(one: Value, other: Value) -> Value:
    """3 h as a number with a unit, where the other one has that unit: by itself the letter may be a variable."""
    found = (
        re.fullmatch(r"(.*\S) *?([a-zA-Z](?: *\^ *\{?[23]\}?)?)", one.text)
        if one.kind == "formula" and other.unit
        else None
    )
    if not found or canonical(found.group(2)) != other.unit or re.search(r"[-+*/^_=({\[]$", found.group(1)):
        return one
    return replace(value(found.group(1)), unit=other.unit)


_CALLED = re.compile(r"(?:\\text *\{ *)?([A-Z])(?: *\})?(?:'|_ *\{?\w\}?)? *(\(.+\))", re.DOTALL)


def _called(one: Value, other: Value) -> Value:
    """A(1, 2) as the point (1, 2) where the other is a point; P(5, 2) as the number of permutations where it is not."""
    found = _CALLED.fullmatch(one.text) if one.kind == "formula" else None
    if not found:
        return one
    places = value(found.group(2))
    if other.kind == "bracket":
        return places if places.kind == "bracket" else one
    numbers = [place.number.value for place in places.items if place.number]
    if found.group(1) != "P" or places.kind != "bracket" or len(numbers) != 2 or len(places.items) != 2:
        return one
    above, below = numbers
    if above.denominator != 1 or below.denominator != 1 or not 0 <= below <= above:
        return one
    return Value("formula", rf"\frac{{{above}!}}{{({above}-{below})!}}")


def _along_axes(one: Value, other: Value) -> Value:
    """(3, -2) as 3i - 2j, where the other is written so."""
    flat = (one.kind == "bracket" and one.signs == ("(", ")")) or (one.kind == "matrix" and one.columns == 1)
    if not flat or not 2 <= len(one.items) <= 3 or other.kind != "formula" or not re.search(r"u_\{[123]\}", other.text):
        return one
    return Value("formula", " + ".join(rf"({i.text}) \cdot u_{{{n}}}" for n, i in enumerate(one.items, 1)))


COERCIONS = (_lettered, _assigned, _along_axes, _solved, _called)
"""Each gives the first of two values in the form of the second where it has that form too, else as it is."""


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


def residues(gold: Value, given: Value) -> tuple[Value, Value]:
    """Numbers modulo the same as the smallest that are the same there: 10 (mod 7) is 3 (mod 7)."""
    if gold.unit is None or gold.unit != given.unit or not re.fullmatch(r"mod [1-9]\d*", gold.unit):
        return gold, given
    modulus = int(gold.unit.removeprefix("mod "))
    return _residue(gold, modulus), _residue(given, modulus)


def of_residue(gold: Value, given: Value, same_family: Callable[[str, str, str], bool]) -> bool:
    """Is one a residue and the other all its numbers, as x = 3 (mod 7) and x = 7k + 3 for any whole k?"""
    for one, other in ((gold, given), (given, gold)):
        modulus = re.fullmatch(r"mod ([1-9]\d*)", one.unit or "")
        letters = [letter for letter, kind in other.domains if kind == "Z"]
        if not modulus or len(letters) != 1 or len(other.domains) != 1:
            continue
        name, left = _named(one)
        called, formula = _named(other)
        if left.number and formula.kind == "formula" and (name == called or not (name and called)):
            return same_family(f"{modulus[1]} {letters[0]} + ({left.text})", formula.text, letters[0])
    return False


def _named(part: Value) -> tuple[str, Value]:
    """The name of a value, or "", and the value."""
    if part.kind == "relation" and part.signs == ("=",) and is_name(part.items[0].text):
        return compact(part.items[0].text), part.items[1]
    return "", part


def _residue(part: Value, modulus: int) -> Value:
    if part.kind == "relation" and part.signs == ("=",):
        return replace(part, items=(part.items[0], _residue(part.items[1], modulus)))
    if part.number is None or part.number.value.denominator != 1:
        return part
    left = str(part.number.value.numerator % modulus)
    return replace(part, text=left, number=number(left))


def labels_fit(gold: Value, given: Value) -> Literal["any", "same", "none"]:
    """In what order values of lists are compared that may have names: x_1 = 3, x_2 = 4 in any, a = 3, b = 4 in the same.

    Names that are only partly the same, as in a = 2, a = 3 or b = 7, are no list of values; nor are alternatives of other names.
    """
    wanted, found = (_labels(part) for part in (gold, given))
    if bool(wanted) == bool(found):
        return "any"
    names = wanted or found
    labelled = gold if wanted else given
    if len(set(names)) == 1:
        return "any"
    whole = len(set(names)) == len(names) == len(labelled.items) and labelled.signs != ("or",)
    whole = whole and gold.kind == given.kind == "list"  # a set is of the values of one
    return "same" if whole else "none"


def _labels(part: Value) -> list[str]:
    """The names, without indices, of the values of a list that have one."""
    firsts = [
        i.items[0].text for i in part.items if i.kind == "relation" and i.signs == ("=",) and is_name(i.items[0].text)
    ]
    return [re.sub(r"_ *(?:\{[^{}]*\}|\w)|['\s]", "", first) for first in firsts]


def may_be_same_set(gold: Value, given: Value) -> bool:
    """May two values be one set in two forms? An answer must be worked out: x^2 < 9 is the question, not the set."""
    kinds = {gold.kind, given.kind}
    if kinds <= {"bracket", "set", "list"} and (kinds <= {"bracket", "set"} or _numbers(gold) or _numbers(given)):
        return False
    if not all(map(_set_like, (gold, given))):
        return False
    if kinds == {"formula"}:
        return True
    parts = given.items if given.kind in ("list", "builder") else (given,)
    return all(part.kind != "relation" or r"\in" in part.signs or variable(part) is not None for part in parts)


def _set_like(part: Value) -> bool:
    if part.kind in ("union", "builder", "set"):
        return True
    if part.kind == "bracket":
        return len(part.items) == 2
    if part.kind in ("relation", "list"):
        relations = part.items if part.kind == "list" else (part,)
        return all(r.kind == "relation" and "=" not in r.signs for r in relations) or _numbers(part)
    signs = (
        r"\mathbb",
        r"\emptyset",
        r"\cup",
        r"\cap",
        r"\setminus",
        r"\overline",
        r"\bar",
        "^{c}",
        "^{C}",
        r"\complement",
    )
    return (part.kind == "formula" and any(s in part.text for s in signs)) or part.text == "no solution"


def _numbers(part: Value) -> bool:
    """A list of numbers, which may be written for a set."""
    return part.kind == "list" and all(i.kind == "number" for i in part.items)


def unlabelled(gold: Value, given: Value) -> tuple[Value, Value]:
    """Lists of values of one name, x_1 = 3, x_2 = 4 and x = 3 or x = 4, without it."""
    names = [_labels(part) for part in (gold, given)]
    if (
        not all(names)
        or len({*names[0], *names[1]}) > 1
        or any(len(n) < len(p.items) for n, p in zip(names, (gold, given), strict=True))
    ):
        return gold, given
    return replace(gold, items=tuple(i.items[-1] for i in gold.items)), replace(
        given, items=tuple(i.items[-1] for i in given.items)
    )


def letters_of(part: Value) -> str | None:
    """The choices that "ABD" or "A, B, D" names, in order; None: it names none."""
    if part.kind == "list" and all(re.fullmatch("[A-H]", i.text, re.I) for i in part.items):
        return "".join(sorted({i.text.upper() for i in part.items}))
    plain = compact(part.text)
    return (
        plain
        if part.kind == "formula" and re.fullmatch("[A-H]{2,8}", plain) and list(plain) == sorted(set(plain))
        else None
    )


def same_word(gold: Value, given: Value) -> bool:
    """The same words; a yes or no also where more follows it."""
    wanted, found = word(gold), word(given)
    if wanted is None or found is None:
        return False
    first, _, more = found.partition(" ")
    if (
        wanted in _YES_NO and first == wanted and re.match(r"\w+\s*[,;:-]", given.text)
    ):  # "Yes, it does", not "no solution"
        return not set(more.split()) & (_YES_NO | {"but", "or", "not", "if", "maybe"})
    return wanted.replace(" ", "") == found.replace(" ", "") or _said_of(found, wanted) or _said_of(wanted, found)


def _said_of(sentence: str, told: str) -> bool:
    """Does a sentence of one subject tell just that, as "the series diverges" tells "diverges"?"""
    verb = r"(?:(?:is|are) )" if told not in _VERBS else ""
    subject = r"(?:this |that )?(?!not |never |non |no |nor |neither |[a-z]*ly )[a-z]{2,}"
    return re.fullmatch(rf"{subject} {verb}{re.escape(told)}", sentence) is not None


_VERBS = frozenset(("converges", "diverges", "exists", "does not exist", "increases", "decreases"))
_YES_NO = frozenset(("yes", "no", "true", "false"))


def same_ratio(gold: Value, given: Value, same: Callable[[str, str], bool]) -> bool:
    """3:4 is 6:8, and 3/4. `same` compares formulas, for ratios of roots."""
    if gold.kind == given.kind and len(gold.items) == len(given.items) == 2 and all(_is_time(r) for r in (gold, given)):
        return gold.text == given.text  # 1:20 may be a time
    if any(i.number is None for r in (gold, given) for i in r.items):
        quotients = [_quotient(r) for r in (gold, given)]
        return (
            len(gold.items) in (0, 2)
            and len(given.items) in (0, 2)
            and all(quotients)
            and same(quotients[0], quotients[1])
        )
    if gold.kind != given.kind:
        ratio, single = (gold, given) if gold.kind == "ratio" else (given, gold)
        if len(ratio.items) != 2 or not single.number:
            return len(ratio.items) == 2 and single.kind == "formula" and same(_quotient(gold), _quotient(given))
        return _exact(ratio.items[0]) == single.number.value * _exact(ratio.items[1])
    one, other = ([_exact(i) for i in r.items] for r in (gold, given))
    return len(one) == len(other) and all(a * other[0] == b * one[0] for a, b in zip(one, other, strict=True))


def _is_time(ratio: Value) -> bool:
    return re.fullmatch(r"\d{1,2}:\d\d", ratio.text) is not None


def _quotient(part: Value) -> str:
    """A ratio of two, or another value, as a formula."""
    if part.kind == "ratio":
        return rf"\frac{{{part.items[0].text}}}{{{part.items[1].text}}}"
    return part.text if part.kind in ("number", "formula") else ""


def _exact(side: Value) -> Fraction:
    """The number that a side of a ratio is."""
    assert side.number is not None
    return side.number.value


def distinct(items: Sequence[Value]) -> list[Value]:
    """Without those written the same twice."""
    return list({compact(item.text): item for item in items}.values())


def word(part: Value) -> str | None:
    """Words of a text, or the letters of a formula that is nothing else ("\\text{even}", "E")."""
    if part.kind == "text" or (part.kind == "ratio" and _is_time(part)):
        return part.text
    if part.kind == "list" and all(item.kind == "text" for item in part.items):  # "Friday, June 20"
        return letters(part.text)
    if part.number and part.unit in ("am", "pm", "o'clock"):  # 6 PM is 6:00 PM
        return f"{part.text}:00"
    if part.text in (r"\emptyset", r"\{\}", r"\{ \}"):
        return "no solution"
    plain = re.sub(r"[\s()']+", " ", part.text.lower()).strip()
    return plain if part.kind == "formula" and re.fullmatch(r"[a-z ]+", plain) and "'" not in part.text else None

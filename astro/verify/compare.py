"""Is an answer the gold one? Kinds are compared each by its own rule, parts one by one, formulas by the `formulas` handed in.

The rules need no sympy, so the caller decides easy pairs itself and only formulas go to a worker; both run this code.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from astro.verify.braces import Malformed
from astro.verify.choices import choice, labelled
from astro.verify.inequalities import solution_set, turned, variable
from astro.verify.numbers import Number, comma_decimal, means_exact, same_number
from astro.verify.parse import Value, is_name, is_quantity, read
from astro.verify.units import conflict
from schemas.records import Verdict


@dataclass(frozen=True, slots=True)
class Grade:
    """One grading."""

    verdict: Verdict
    answer: str | None
    """What was graded, as extracted; None: the response holds no answer."""
    rule: str
    """What decided: the kind that was compared (number, text, choice, formula, bracket, set, list, union, matrix, relation),
    or why there is nothing to compare, or the limit that was overrun."""


class GoldMalformed(Malformed):
    """The fault is the gold's."""


class Formulas(Protocol):
    """What knows formulas."""

    def check(self, text: str) -> None:
        """Raises:
        Malformed: not a formula with a value (division by zero, nonsense).
        """

    def same(self, gold: str, given: str) -> bool:
        """Are two formulas, or a formula and a number, equal for all values of their variables?"""

    def rounds_to(self, text: str, value: Fraction, places: int) -> bool:
        """Is the value the formula's, rounded to so many places?"""

    def same_equation(self, gold: tuple[str, str], given: tuple[str, str], sign: str) -> bool:
        """Do two equations (inequalities), given as their sides, hold for the same values?"""

    def same_set(self, gold: str, given: str) -> bool:
        """Are two sets, written as text, equal?"""


def decide(gold: str, answer: str, formulas: Formulas) -> Grade:
    """Grade an answer from which the sentence around it has been taken."""
    try:
        wanted = read(gold)
        check(wanted, formulas)
    except Malformed as error:
        return Grade("unparseable_gold", answer, str(error))
    letter = choice(gold)
    if letter and choice(answer) == letter:
        return Grade("correct", answer, "choice")
    try:
        given = read(answer)
        if _compact(given.text) != _compact(wanted.text):
            check(given, formulas)
        right = Comparison(formulas).same(wanted, given) or _content(gold, answer, formulas)
    except Malformed as error:
        return Grade("unparseable_prediction", answer, str(error))
    return Grade("correct" if right else "wrong", answer, wanted.kind)


def check(part: Value, formulas: Formulas) -> None:
    """Raises:
    Malformed: a formula in it has no value.
    """
    if part.kind == "formula":
        formulas.check(part.text)
    for item in part.items:
        check(item, formulas)


def _compact(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _content(gold: str, answer: str, formulas: Formulas) -> bool:
    """ "(C) 5" says 5, too, whichever of the two has the label. Where both have one, the label has decided."""
    rests = []
    for text in (gold, answer):
        found = labelled(text)
        rest = found.group(4).strip(" }$") if found else ""
        rests.append(found.group(4) if found and rest else None)
    if (rests[0] is None) == (rests[1] is None):
        return False
    try:
        return Comparison(formulas).same(read(rests[0] or gold), read(rests[1] or answer))
    except Malformed:
        return False


# --- values ------------------------------------------------------------------------------------------------------------

_COEFFICIENT = re.compile(r"(?:^|[+\-=(*/ ])\d+(?:\.\d+)?\s*(?:\\cdot\s*|\*\s*)?[a-zA-Z]")


@dataclass(frozen=True)
class Comparison:
    """Compares values part by part."""

    formulas: Formulas

    def same(self, gold: Value, given: Value) -> bool:
        """Is `given` what `gold` says?"""
        if conflict(gold.unit, given.unit):
            return False
        if gold.kind == "relation" or given.kind == "relation":
            return self._relations(gold, given)
        if gold.number and given.number:
            return same_number(gold.number, given.number)
        if "text" in (gold.kind, given.kind):
            return _word(gold) is not None and _word(gold) == _word(given)
        if "ratio" in (gold.kind, given.kind):
            return _ratios(gold, given)
        if gold.kind == "matrix" or given.kind == "matrix":
            return self._matrices(gold, given)
        gold, given = _solved(gold, given), _solved(given, gold)
        if gold.kind == "union" or given.kind == "union":
            return self._unions(gold, given)
        if gold.items or given.items or "set" in (gold.kind, given.kind):
            return self._collections(gold, given)
        if _compact(gold.text) == _compact(given.text):
            return True
        if self.formulas.same(_text(gold), _text(given)):
            return True
        for decimal, exact in ((gold, given), (given, gold)):
            if decimal.number and exact.kind == "formula" and means_exact(decimal.number):
                return self.formulas.rounds_to(exact.text, decimal.number.value, decimal.number.places or 0)
        return False

    def _matrices(self, gold: Value, given: Value) -> bool:
        if gold.kind == given.kind == "matrix":
            return gold.columns == given.columns and self._in_order(gold.items, given.items)
        for matrix, vector in ((gold, given), (given, gold)):
            if matrix.kind == "matrix" and matrix.columns in (1, len(matrix.items)) and vector.kind == "bracket":
                return vector.signs in (("(", ")"), ("[", "]")) and self._in_order(gold.items, given.items)
        if "formula" in (gold.kind, given.kind):  # a sum or product of matrices
            return self.formulas.same(gold.text, given.text)
        return False

    def _collections(self, gold: Value, given: Value) -> bool:
        """Tuples and intervals by place and bracket, sets and lists in any order; a list may also be a tuple in its order."""
        kinds = {gold.kind, given.kind}
        if kinds == {"bracket"}:
            alike = gold.signs == given.signs or (len(gold.items) > 2 and {*gold.signs, *given.signs} == set("()[]"))
            return alike and self._in_order(gold.items, given.items)
        if kinds == {"bracket", "list"}:
            bracket = gold if gold.kind == "bracket" else given
            # of two values it may be an interval, or a point
            return len(bracket.items) > 2 and bracket.signs == ("(", ")") and self._in_order(gold.items, given.items)
        if kinds <= {"set", "list"}:
            return self._in_any_order(gold.items, given.items)
        if gold.kind == "number" and given.kind == "list":
            read_so = comma_decimal(_compact(given.text)) if " " not in given.text else None
            return bool(read_so and gold.number.places and read_so.value == gold.number.value)
        for collection, single in ((gold, given), (given, gold)):
            if collection.kind == "set" and len(collection.items) == 1 and not single.items:
                return self.same(gold.items[0], given) if collection is gold else self.same(gold, given.items[0])
        if "formula" in kinds and kinds & {"set", "bracket"}:  # \mathbb{R} \setminus \{0\}, \emptyset
            return self.formulas.same_set(gold.text, given.text)
        return False

    def _unions(self, gold: Value, given: Value) -> bool:
        if gold.kind == given.kind == "union" and self._in_any_order(gold.items, given.items):
            return True
        return self.formulas.same_set(_set_text(gold), _set_text(given))

    def _in_order(self, gold: Sequence[Value], given: Sequence[Value]) -> bool:
        return len(gold) == len(given) and all(map(self.same, gold, given))

    def _in_any_order(self, gold: Sequence[Value], given: Sequence[Value]) -> bool:
        left = list(given)
        if len(gold) != len(left):  # {1, 1, 2} is {1, 2}; but 1, 1, 2 is not 1, 2, 2
            gold, left = _distinct(gold), _distinct(given)
        if len(gold) != len(left):
            return False
        for item in gold:
            match = next((other for other in left if self.same(item, other)), None)
            if match is None:
                return False
            left.remove(match)
        return True

    # --- equations and inequalities

    def _relations(self, gold: Value, given: Value) -> bool:
        if gold.kind == given.kind == "relation":
            return self._two_relations(gold, given)
        if given.kind == "relation":
            return self._stated(gold, given)
        if set(gold.signs) <= {"=", r"\in"} and is_quantity(gold.items[0].text):  # gold x = 5, given 5
            return all(self.same(item, given) for item in gold.items[1:])
        as_set = solution_set(gold)
        return as_set is not None and given.kind in ("bracket", "union", "set") and self.same(as_set, given)

    def _stated(self, gold: Value, given: Value) -> bool:
        """Given x = 5 where 5 is wanted: all that it says to be equal must be it; a name before it may stand for anything."""
        if set(given.signs) <= {"=", r"\in"}:
            first, *rest = given.items
            names = is_quantity(first.text) or _measures(first, gold)
            return all(self.same(gold, item) for item in (rest if names else given.items))
        as_set = solution_set(given)
        return as_set is not None and gold.kind in ("bracket", "union") and self.same(gold, as_set)

    def _two_relations(self, gold: Value, given: Value) -> bool:
        if (
            len(gold.items) == len(given.items)
            and gold.signs == given.signs
            and self._in_order(gold.items, given.items)
        ):
            return True
        if (
            set(gold.signs) | set(given.signs) <= {"=", r"\in"}
            and is_name(gold.items[0].text)
            and is_name(given.items[0].text)
        ):
            if _compact(gold.items[0].text) == _compact(given.items[0].text):
                wanted = gold.items[-1]  # x = 5 + 6 = 11 is x = 11
                if all(self.same(wanted, item) for item in given.items[1:]):
                    return True
            elif _function(gold.items[0].text) and _function(given.items[0].text):
                return self.same(gold.items[-1], given.items[-1])
            elif len(gold.items[0].text) == len(given.items[0].text) == 1 and gold.items[-1].kind != "formula":
                return False
        one, other = solution_set(gold), solution_set(given)
        if one is not None and other is not None and variable(gold) == variable(given):
            return self.same(one, other)
        if len(gold.signs) == len(given.signs) == 1:
            return self._equations(gold, given)
        turned = Value("relation", given.text, given.items[::-1], signs=tuple(turned(s) for s in given.signs[::-1]))
        return gold.signs == turned.signs and self._in_order(gold.items, turned.items)

    def _equations(self, gold: Value, given: Value) -> bool:
        sign, sides = gold.signs[0], [i.text for i in given.items]
        if any(i.items or i.kind == "text" for i in (*gold.items, *given.items)):
            return False
        if given.signs[0] != sign:
            if turned(given.signs[0]) != sign:
                return False
            sides = sides[::-1]
        return self.formulas.same_equation((gold.items[0].text, gold.items[1].text), (sides[0], sides[1]), sign)


def _measures(side: Value, gold: Value) -> bool:
    """May what stands before "= 5" be what was asked for, as m + n, f(2) + f(3) or cos A? Not 5x, x^2 or -x: these ask for x."""
    if side.kind not in ("formula", "bracket") or _COEFFICIENT.search(side.text):
        return False
    letters = set(re.findall(r"[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", side.text)))
    applied = re.search(r"\\(?:sin|cos|tan|cot|sec|csc|log|ln|det|angle)|[a-zA-Z] *\(", side.text)
    if not is_name(re.sub(r"[^a-zA-Z]", "", side.text)):  # only the name of a function, as in log = 2
        return False
    shared = letters & set(re.findall(r"(?<!\\)\b[a-zA-Z]\b", gold.text))
    return (len(letters) > 1 or applied is not None) and not shared


def _function(name: str) -> bool:
    """y and f(x) are two names of one thing."""
    return re.fullmatch(r"y|[a-z]\((?:x|t|n)\)", _compact(name)) is not None


def _measures(side: Value, gold: Value) -> bool:
    """May what stands before "= 5" be what was asked for, as m + n, f(2) + f(3) or cos A? Not 5x, x^2 or -x: these ask for x."""
    if side.kind not in ("formula", "bracket") or _COEFFICIENT.search(side.text):
        return False
    letters = set(re.findall(r"[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", side.text)))
    applied = re.search(r"\\(?:sin|cos|tan|cot|sec|csc|log|ln|det|angle)|[a-zA-Z] *\(", side.text)
    if not is_name(re.sub(r"[^a-zA-Z]", "", side.text)):  # only the name of a function, as in log = 2
        return False
    shared = letters & set(re.findall(r"(?<!\\)\b[a-zA-Z]\b", gold.text))
    return (len(letters) > 1 or applied is not None) and not shared


def _function(name: str) -> bool:
    """y and f(x) are two names of one thing."""
    return re.fullmatch(r"y|[a-z]\((?:x|t|n)\)", _compact(name)) is not None


def _solved(one: Value, other: Value) -> Value:
    """A list of inequalities as the set that it describes, where the other is a set."""
    if one.kind == "list" and other.kind in ("union", "bracket") and all(i.kind == "relation" for i in one.items):
        return solution_set(one) or one
    return one


def _ratios(gold: Value, given: Value) -> bool:
    """3:4 is 6:8, and 3/4."""
    if gold.kind != given.kind:
        ratio, single = (gold, given) if gold.kind == "ratio" else (given, gold)
        if len(ratio.items) != 2 or not single.number:
            return False
        return ratio.items[0].number.value == single.number.value * ratio.items[1].number.value
    one, other = ([i.number.value for i in r.items] for r in (gold, given))
    return len(one) == len(other) and all(a * other[0] == b * one[0] for a, b in zip(one, other, strict=True))


def _distinct(items: Sequence[Value]) -> list[Value]:
    """Without those written the same twice."""
    return list({_compact(item.text): item for item in items}.values())


def _word(part: Value) -> str | None:
    """Words of a text, or the letters of a formula that is nothing else ("\\text{even}", "E")."""
    if part.kind == "text":
        return part.text
    letters = re.sub(r"[\s()']+", " ", part.text.lower()).strip()
    return letters if part.kind == "formula" and re.fullmatch(r"[a-z ]+", letters) and "'" not in part.text else None


def _text(part: Value) -> str:
    """Text for a formula parser: numbers in one way of writing."""
    return _fraction(part.number) if part.number else part.text


def _fraction(read_number: Number) -> str:
    plain: Fraction = read_number.value
    return str(plain.numerator) if plain.denominator == 1 else rf"\frac{{{plain.numerator}}}{{{plain.denominator}}}"


def _set_text(part: Value) -> str:
    return part.text


# --- without sympy -----------------------------------------------------------------------------------------------------


class NeedsSympy(Exception):
    """The caller cannot decide this pair by itself."""


class NoFormulas:
    """Knows only formulas that are sound at sight; all else needs a worker."""

    def check(self, text: str) -> None:
        """Digits, letters, roots and signs cannot be without a value."""
        if not _SOUND.fullmatch(text):
            raise NeedsSympy

    def same(self, gold: str, given: str) -> bool:
        """Not here."""
        raise NeedsSympy

    def rounds_to(self, text: str, value: Fraction, places: int) -> bool:
        """Not here."""
        raise NeedsSympy

    def same_equation(self, gold: tuple[str, str], given: tuple[str, str], sign: str) -> bool:
        """Not here."""
        raise NeedsSympy

    def same_set(self, gold: str, given: str) -> bool:
        """Not here."""
        raise NeedsSympy


_ROOT = r"\\sqrt\{[1-9]\d{0,8}\}"
_SOUND = re.compile(  # atomic: nothing in it can be read in two ways, and a failure costs no more than a match
    rf"(?>[0-9a-zA-Z()+ .-]|\\(?:pi|cdot|times|sin|cos|alpha|beta|theta)(?![a-zA-Z])|\\sqrt\{{\d{{1,9}}\}}"
    rf"|\\frac\{{(?>[0-9a-z+ -]|\\pi|{_ROOT}){{1,30}}\}}\{{(?:[1-9]\d{{0,8}}|{_ROOT}|\\pi)\}}|\^\{{[2-9]\}}|_\{{?\w\}}?)+"
)
"""Formulas without a division by anything but a number that is not 0."""

"""Is an answer the gold one? Kinds are compared each by its own rule, parts one by one, formulas by the `formulas` handed in.

The rules need no sympy, so the caller decides easy pairs itself and only formulas go to a worker; both run this code.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from astro.grading.brackets import Malformed
from astro.grading.choices import choice, labelled
from astro.grading.coercion import (
    COERCIONS,
    compact,
    distinct,
    labels_fit,
    letters_of,
    may_be_same_set,
    may_be_set,
    of_residue,
    residues,
    rows,
    same_ratio,
    same_word,
    unlabelled,
)
from astro.grading.inequalities import solution_set, turned, variable
from astro.grading.numbers import Number, comma_decimal, means_exact, same_number
from astro.grading.parse import Value, is_name, is_quantity, read, value
from astro.grading.trailing_text import constants_renamed, differ, renamed, renaming
from astro.grading.units import conflict, factor
from astro.grading.words import same_figure
from schemas.records import Extraction, Verdict


@dataclass(frozen=True, slots=True)
class Grade:
    """One grading."""

    verdict: Verdict
    answer: str | None
    """What was graded, as extracted; None: the response holds no answer."""
    rule: str
    """What decided: the kind that was compared (number, text, choice, formula, bracket, set, list, union, matrix, relation),
    or why there is nothing to compare, or the limit that was overrun."""
    extraction: Extraction | None = None
    """Where the answer of a response stands; None: the answer was given as one."""


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

    def near(self, text: str, value: Fraction) -> bool:
        """Is the value the formula's, more or less, or may it be (it has variables)?"""

    def same_equation(self, gold: tuple[str, str], given: tuple[str, str], sign: str) -> bool:
        """Do two equations (inequalities), given as their sides, hold for the same values?"""

    def same_set(self, gold: Value, given: Value) -> bool:
        """Are two values the same set of numbers, or of what the named sets in them hold?"""

    def same_family(self, gold: str, given: str, letter: str) -> bool:
        """Do two formulas take the same values where the letter is any whole number?"""


def decide(gold: str, answer: str, formulas: Formulas) -> Grade:
    """Grade an answer from which the sentence around it has been taken."""
    try:
        wanted = read(gold)
        check(wanted, formulas)
        hold(wanted, formulas)
    except Malformed as error:
        return Grade("unparseable_gold", answer, str(error))
    letter = choice(gold)
    if letter and choice(answer) == letter:
        return Grade("correct", answer, "choice")
    try:
        given = read(answer)
        if compact(given.text) != compact(wanted.text):
            check(given, formulas)
        agree(given, formulas)
        right = _right(wanted, given, Comparison(formulas)) or _content(gold, answer, formulas)
    except Malformed as error:
        return Grade("unparseable_prediction", answer, str(error))
    return Grade("correct" if right else "wrong", answer, wanted.kind)


def _right(wanted: Value, given: Value, comparison: "Comparison") -> bool:
    """Compares whole answers: letters that stand for any whole number, or for any constant, may have other names."""
    for named in constants_renamed(wanted.text, given.text, given.domains):
        if comparison.same(wanted, value(named)):
            return True
    if of_residue(wanted, given, comparison.formulas.same_family):
        return True
    one, other = dict(wanted.domains), dict(given.domains)
    if wanted.kind == "builder" or given.kind == "builder" or not one:
        return comparison.same(wanted, given)
    pair = renaming(one, other)
    if pair:
        text = renamed(given.text, *pair)
        if text is not None:
            given, other = value(text), {pair[1]: other[pair[0]]}
    if differ(one, other):
        return False
    if comparison.same(wanted, given):
        return True
    letters = [letter for letter, kind in one.items() if kind == "Z"]
    if len(letters) != 1 or other.get(letters[0]) != "Z":
        return False
    sides = [
        v.items[-1] if v.kind == "relation" and v.signs == ("=",) and is_name(v.items[0].text) else v
        for v in (wanted, given)
    ]
    return all(s.kind == "formula" for s in sides) and comparison.formulas.same_family(
        sides[0].text, sides[1].text, letters[0]
    )


def hold(gold: Value, formulas: Formulas) -> None:
    """Raises:
    Malformed: a gold that is an equation of numbers, and a false one.
    """
    if gold.kind != "relation" or set(gold.signs) != {"="} or any(_letters(item) or item.items for item in gold.items):
        return
    first, *rest = gold.items
    if not all(i.kind in ("number", "formula") for i in gold.items) or all(
        Comparison(formulas).same(first, i) for i in rest
    ):
        return
    raise Malformed("an equation that does not hold")


def agree(given: Value, formulas: Formulas) -> None:
    """Raises:
    Malformed: a formula that is said to be about another number than it is.
    """
    exact = given.items[-1] if given.kind == "relation" else given
    if given.said and exact.kind == "formula" and not formulas.near(exact.text, given.said.value):
        raise Malformed("its gloss says another number")


def check(part: Value, formulas: Formulas) -> None:
    """Raises:
    Malformed: a formula in it has no value.
    """
    if part.kind == "formula":
        formulas.check(part.text)
    for item in part.items:
        check(item, formulas)


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
        return self._same(gold, given) or (may_be_same_set(gold, given) and self.formulas.same_set(gold, given))

    def _same(self, gold: Value, given: Value) -> bool:
        gold, given = residues(gold, given)
        for coercion in COERCIONS:
            gold, given = coercion(gold, given), coercion(given, gold)
        if conflict(gold.unit, given.unit):
            times = factor(given.unit, gold.unit)
            return bool(times and gold.number and given.number and gold.number.value == given.number.value * times)
        if gold.kind == "relation" or given.kind == "relation":
            return self._relations(gold, given)
        if gold.number and given.number:
            if (gold.number.percent and given.unit) or (given.number.percent and gold.unit):
                return gold.number.value == given.number.value  # 45% is not 45 degrees
            return same_number(gold.number, given.number)
        if "text" in (gold.kind, given.kind):
            return same_word(gold, given) or same_figure(gold.text, given.text) is True
        if "ratio" in (gold.kind, given.kind):
            return same_ratio(gold, given, self.formulas.same)
        if gold.kind == "matrix" or given.kind == "matrix":
            return self._matrices(gold, given)
        if gold.kind == "union" or given.kind == "union":
            return self._unions(gold, given)
        if gold.items or given.items or "set" in (gold.kind, given.kind):
            return self._collections(gold, given)
        if compact(gold.text) == compact(given.text):
            return True
        figures = same_figure(gold.text, given.text)
        if figures is not None:
            return figures
        if self.formulas.same(_text(gold), _text(given)):
            return True
        for decimal, exact in ((gold, given), (given, gold)):
            if decimal.number and exact.kind == "formula" and means_exact(decimal.number):
                return self.formulas.rounds_to(exact.text, decimal.number.value, decimal.number.places or 0)
        return False

    def _matrices(self, gold: Value, given: Value) -> bool:
        gold, given = rows(gold), rows(given)
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
        for collection, single in ((gold, given), (given, gold)):
            if collection.kind == "list" and collection.signs == ("or",) and single.kind not in ("list", "set"):
                return all(  # one value in two forms: 1/2 or 0.5
                    self.same(*((item, given) if collection is gold else (gold, item))) for item in collection.items
                )
        if kinds == {"formula", "list"}:
            return letters_of(gold) is not None and letters_of(gold) == letters_of(given)
        if kinds <= {"set", "list"}:
            if gold.kind == given.kind == "list":
                gold, given = unlabelled(gold, given)
            if gold.kind == "list" or given.kind == "list":
                order = labels_fit(gold, given)
                if order != "any":
                    return order == "same" and self._in_order(gold.items, given.items)
            return self._in_any_order(gold.items, given.items, sets="set" in kinds)
        if gold.kind == "number" and given.kind == "list":
            read_so = comma_decimal(compact(given.text)) if " " not in given.text else None
            return bool(read_so and gold.number and gold.number.places and read_so.value == gold.number.value)
        if gold.kind == "list" and given.number and given.number.places and re.fullmatch(r"-?\d+,\d{2,}", gold.text):
            read_so = comma_decimal(gold.text)  # a gold of 1,22 may be 1.22: nobody says that for the list
            return read_so is not None and read_so.value == given.number.value
        for collection, single in ((gold, given), (given, gold)):
            if collection.kind == "set" and len(collection.items) == 1 and single.kind not in ("set", "list"):
                return self.same(gold.items[0], given) if collection is gold else self.same(gold, given.items[0])
        return False

    def _unions(self, gold: Value, given: Value) -> bool:
        alike = gold.kind == given.kind == "union" and not {*gold.signs, *given.signs} - {r"\cup"}
        return alike and self._in_any_order(gold.items, given.items)

    def _in_order(self, gold: Sequence[Value], given: Sequence[Value]) -> bool:
        return len(gold) == len(given) and all(map(self.same, gold, given))

    def _in_any_order(self, gold: Sequence[Value], given: Sequence[Value], *, sets: bool = False) -> bool:
        left = list(given)
        if len(gold) != len(
            left
        ):  # {1, 1, 2} is {1, 2}, and an answer may repeat itself; but 1, 1, 2 is not 1, 2: a double root
            gold, left = distinct(gold) if sets else gold, distinct(given)
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
        first = gold.items[0].text
        if set(gold.signs) <= {"=", r"\in"} and (is_quantity(first) or r"\ldots" in first):  # gold x = 5, given 5
            return all(self.same(item, given) for item in gold.items[1:])
        if set(gold.signs) == {"="} and not any(_letters(item) for item in gold.items):  # gold C(10,3) = 120, given 120
            return all(self.same(item, given) for item in gold.items)
        as_set = solution_set(gold)
        return as_set is not None and may_be_set(given) and self.same(as_set, solution_set(given) or given)

    def _stated(self, gold: Value, given: Value) -> bool:
        """Given x = 5 where 5 is wanted: all that it says to be equal must be it; a name before it may stand for anything."""
        if set(given.signs) <= {"=", r"\in"}:
            first, *rest = given.items
            names = is_quantity(first.text) or _measures(first, gold)
            if names and self.same(gold, rest[-1]):  # A = bh/2 = 5: what has other letters in it may be 5
                rest = [item for item in rest[:-1] if not _letters(item) - _letters(first)] + rest[-1:]
            shown = [
                item for item in (rest if names else given.items[:-1]) if r"\ldots" not in item.text
            ]  # 1 + ... + n
            return all(self.same(gold, item) for item in [*shown, given.items[-1]])
        as_set = solution_set(given)
        return as_set is not None and may_be_set(gold) and self.same(solution_set(gold) or gold, as_set)

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
            if compact(gold.items[0].text) == compact(given.items[0].text):
                wanted = gold.items[-1]  # x = 5 + 6 = 11 is x = 11
                if all(self.same(wanted, item) for item in given.items[1:]):
                    return True
            elif _one_function(gold.items[0].text, given.items[0].text):
                return self.same(gold.items[-1], given.items[-1])
            elif len(gold.items[0].text) == len(given.items[0].text) == 1 and gold.items[-1].kind != "formula":
                return False
        one, other = solution_set(gold), solution_set(given)
        if one is not None and other is not None and variable(gold) == variable(given):
            return self.same(one, other)
        if len(gold.signs) == len(given.signs) == 1:
            return self._equations(gold, given)
        signs = tuple(turned(sign) for sign in given.signs[::-1])
        return gold.signs == signs and self._in_order(gold.items, given.items[::-1])

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


def _letters(part: Value) -> set[str]:
    if part.number:
        return set()
    return {*re.findall(r"[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", " ", part.text)), *_GREEK.findall(part.text)}


_GREEK = re.compile(r"\\(?:alpha|beta|gamma|delta|epsilon|theta|lambda|mu|rho|sigma|tau|phi|varphi|psi|omega)(?![a-z])")


def _one_function(gold: str, given: str) -> bool:
    """y and f(x) are two names of one thing; f(x) and g(x) are not."""
    names = [re.sub(r"\\frac\{d([a-z])\}\{d[a-z]\}", r"\1'", compact(name)) for name in (gold, given)]
    if names[0] == names[1]:
        return True
    return "y" in names and all(re.fullmatch(r"y|[a-z](?:\^\{-1\})?\((?:x|t|n)\)", name) for name in names)


def _text(part: Value) -> str:
    """Text for a formula parser: numbers in one way of writing."""
    return _fraction(part.number) if part.number else part.text


def _fraction(read_number: Number) -> str:
    plain: Fraction = read_number.value
    return str(plain.numerator) if plain.denominator == 1 else rf"\frac{{{plain.numerator}}}{{{plain.denominator}}}"

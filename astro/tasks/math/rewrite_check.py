"""Extract what a piece of a mathematics solution states (numbers, formulas, equations, words) and test if a rewrite keeps it.

It works on the text alone, in linear time, and evaluates nothing. Layout, LaTeX spelling and the order of sides are ignored.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from astro.grading.stated_equalities import find_equalities
from astro.tasks.math.solution_text import label_of, plain_text, same_text, without_label

KEPT_FORMULAS = 0.5
"""Least share of a step's formulas that its rewrite must keep. "A = b = c" may become "A is b, which makes c", and some
formulas may be put into words as long as their numbers remain.
"""

KEPT_WORDS = 1 / 3
"""Least share of the content words that a rewrite must keep if the step has neither numbers nor formulas."""

_FORMULA = re.compile(r"(?<!\\)\$\$?([^$]+?)(?<!\\)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_SHORTEST_FORMULA = 3  # characters; a letter alone says little
_COMMAND = re.compile(r"\\[a-z]+")
_LABELS = re.compile(r"\bstep +\d+\b", re.IGNORECASE)
# A minus belongs to its number after a word, an open bracket, a sign or nothing, but not after a number, a letter or a
# closed bracket.
_NUMBER = re.compile(r"(?:(?:(?<=[a-z]{2} )|(?<=[=(,<>+*/^|\[]) ?|^ ?)(?P<minus>-) *)?(?P<digits>\d+(?:\.\d+)?)")
_SHORT_FRACTION = re.compile(r"\\[dtc]?frac *(\d) *(\d)")  # \frac34 is not 34
_WORD = re.compile(r"[a-z]{4,}")
_STEM = 5  # letters, so that "adding" equals "added" and "equation" equals "equal"
_COMMON = {
    "this", "that", "these", "those", "with", "from", "into", "then", "than", "thus", "hence", "have", "here",
    "there", "where", "when", "which", "what", "will", "would", "should", "could", "must", "need", "needs", "find",
    "found", "gives", "give", "given", "gets", "know", "known", "also", "just", "only", "next", "first", "last",
    "back", "step", "steps", "problem", "solution", "answer", "value", "values", "number", "numbers", "using", "used",
    "make", "makes", "work", "works", "your", "their", "them", "they", "some", "each", "both", "because", "since",
    "therefore", "about", "before", "after", "again", "still", "does", "doing", "been", "being", "were", "right",
    "wrong", "point",
}  # fmt: skip
"""Words that occur in every solution and therefore say nothing."""


_remembered = lru_cache(maxsize=1 << 15)
"""Cache: each segment of a chain is compared with all earlier ones, so each text is parsed only once."""


@_remembered
def numbers_of(text: str) -> frozenset[str]:
    """The numbers of a text with their signs. 1,000 equals 1000; labels ("Step 3:") are not numbers."""
    text = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", _LABELS.sub(" ", without_label(text)))
    plain = re.sub(r"\s+", " ", plain_text(text))
    return frozenset(("-" if m["minus"] else "") + m["digits"] for m in _NUMBER.finditer(plain))


@_remembered
def formulas_of(text: str) -> frozenset[str]:
    """The formulas of a text (between dollars or LaTeX brackets) and the equations in its prose, without layout."""
    inside = {same_text(next(part for part in m.groups() if part)) for m in _FORMULA.finditer(text)}
    equations = {f"{left}={right}" for left, right in _sides(text)}
    found = inside | {e for e in equations if not any(e in formula for formula in inside)}
    return frozenset(formula for formula in found if len(formula) >= _SHORTEST_FORMULA)


@_remembered
def words_of_weight(text: str) -> frozenset[str]:
    """Stems of the content words of a text."""
    plain = plain_text(_COMMAND.sub(" ", _FORMULA.sub(" ", without_label(text))))
    return frozenset(word[:_STEM] for word in _WORD.findall(plain) if word not in _COMMON)


def keeps(step: str, rewrite: str) -> bool:
    """Whether a rewrite keeps a step: all its numbers, and enough of its formulas or, if it has none, of its words."""
    if numbers_of(step) - numbers_of(rewrite):
        return False
    whole, formulas = same_text(rewrite), formulas_of(step)
    if formulas:
        kept = sum(all(side in whole for side in formula.split("=")) for formula in formulas)
        return kept >= KEPT_FORMULAS * len(formulas)
    words = words_of_weight(step)
    return bool(numbers_of(step)) or len(words & words_of_weight(rewrite)) >= KEPT_WORDS * len(words)


def adds(rewrite: str, sources: Sequence[str]) -> bool:
    """Whether a rewrite adds a number or an equation that none of `sources` contains.

    Tolerated are a number without its sign ("subtract 3" for -3), "Step 3", an equation with swapped sides, and an
    equation that one source implies by transitivity (a = b = c gives a = c).
    """
    known = {number.lstrip("-") for source in sources for number in numbers_of(source)}
    if {number.lstrip("-") for number in numbers_of(rewrite)} - known:
        return True
    new = _sides(rewrite)
    if not new:
        return False
    wholes, equal = [same_text(source) for source in sources], [_classes(source) for source in sources]
    return not all(
        any(f"{left}={right}" in whole or f"{right}={left}" in whole for whole in wholes)
        or any(left in one and one[left] == one.get(right) for one in equal)
        for left, right in new
    )


def named_step(text: str, steps: Sequence[str]) -> int | None:
    """Index of the step in `steps` (in order of writing) that a sentence names; None: it names none.

    A sentence names a step by its number ("Step 3"), by repeating a formula of it, or by two of its numbers or content words.
    The step with the most in common wins. Among equals it is the first, because later ones build on it.
    """
    numbers, formulas, words = numbers_of(text), formulas_of(text), words_of_weight(text)
    labels = {int(found.split()[-1]) for found in _LABELS.findall(text)}
    best, most = None, 1
    for index, step in enumerate(steps):
        whole = same_text(step)
        score = 5 * (label_of(step) in labels) + 3 * sum(formula in whole for formula in formulas)
        score += len(numbers & numbers_of(step)) + len(words & words_of_weight(step))
        if score > most:
            best, most = index, score
    return best


@_remembered
def _sides(text: str) -> tuple[tuple[str, str], ...]:
    """The equations of a text as pairs of sides without layout."""
    pairs = ((same_text(equality.left), same_text(equality.right)) for equality in find_equalities(text))
    return tuple((left, right) for left, right in pairs if left and right)


@_remembered
def _classes(text: str) -> Mapping[str, int]:
    """Equivalence classes: side -> class number. Sides that equations join, directly or transitively, share a class."""
    of: dict[str, int] = {}
    for number, (left, right) in enumerate(_sides(text)):
        for old in {of[side] for side in (left, right) if side in of}:
            of = {side: number if mine == old else mine for side, mine in of.items()}
        of[left] = of[right] = number
    return of

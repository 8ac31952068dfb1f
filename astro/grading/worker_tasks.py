"""Tasks of the workers: one pair graded, one gold looked at. Also what the caller runs first, without sympy."""

import logging
import re

from astro.grading.brackets import Malformed
from astro.grading.compare import Grade, check, decide, hold
from astro.grading.extract import bare
from astro.grading.fast_path import NeedsSympy, NoFormulas
from astro.grading.parse import read

_log = logging.getLogger(__name__)

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
"""Most golds and answers are plain whole numbers: they need no rule."""

AT_SIGHT = 400
"""Characters of gold and answer together that the caller looks at itself; longer ones go to a worker in any case."""


def stripped(gold: str, answer: str) -> tuple[str, str] | Grade:
    """Gold and answer without sentences around them; a grade, where one of them has no answer in it."""
    try:
        wanted = bare(gold)
    except Malformed as error:
        return Grade("unparseable_gold", answer, str(error))
    try:
        return wanted, bare(answer)
    except Malformed as error:
        return Grade("unparseable_prediction", answer, str(error))


def at_sight(gold: str, answer: str) -> Grade | None:
    """The grade of a pair that needs no sympy; None: it does, or it is long."""
    if len(gold) + len(answer) > AT_SIGHT:
        return None
    if _WHOLE.fullmatch(gold) and _WHOLE.fullmatch(answer):
        return Grade("correct" if int(gold) == int(answer) else "wrong", answer, "number")
    try:
        found = stripped(gold, answer)
        return found if isinstance(found, Grade) else decide(*found, NoFormulas())
    except NeedsSympy:
        return None
    except Exception:  # a fault of these rules must not end a training: the worker meets it too, and fails alone
        _log.exception("a pair could not be graded at sight")
        return None


def grade_pair(gold: str, answer: str) -> tuple[str, str | None, str]:
    """Verdict, answer and rule of any pair. Only in workers."""
    from astro.grading.symbolic import SympyFormulas

    found = stripped(gold, answer)
    grade = found if isinstance(found, Grade) else decide(*found, SympyFormulas())
    return grade.verdict, grade.answer, grade.rule


def gold_fault(gold: str) -> str | None:
    """Why no answer can be graded against this gold; None: they can. Only in workers."""
    from astro.grading.symbolic import SympyFormulas

    try:
        wanted, formulas = read(bare(gold)), SympyFormulas()
        check(wanted, formulas)
        hold(wanted, formulas)
    except Malformed as error:
        return str(error)
    return None

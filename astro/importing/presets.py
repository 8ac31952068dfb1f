"""Field maps: which column of a public set is the question, which holds the answer, and how. Checked against the sets' cards.

| map | written for |
|---|---|
| plain | id, question (or problem), answer: files made for this project |
| math | MATH by Hendrycks et al.: problem, level ("Level 5"), type, solution with a boxed answer |
| math500 | HuggingFaceH4/MATH-500: unique_id, problem, solution, answer, subject, level |
| amc2023 | AI-MO/aimo-validation-amc, math-ai/amc23: id, problem or question, answer (27.0), url |
| aime2024 | HuggingFaceH4/aime_2024, Maxwell-Jia/AIME_2024: id, problem, answer ("025"), also with capitals |
| gsm8k | openai/gsm8k: question, answer with "#### 42" at its end |
| numina | AI-MO/NuminaMath-CoT (boxed in solution), NuminaMath-1.5 (answer, "proof" or "notfound" where there is none) |
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from astro.importing.fields import Unreadable, as_object, found_in, get, identifier, inside, number_text, shown
from astro.importing.questions import read_question, unread_columns
from astro.importing.sources import is_utf8
from astro.tasks.math.text import boxes
from schemas.problems import FieldMap

NO_ANSWER = {"", "proof", "notfound", "not found", "none", "null", "n/a", "nan"}
"""What public sets write where a problem has no final answer (NuminaMath 1.5: "proof", "notfound")."""

_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
SPREADSHEET = re.compile(
    rf"(?i)\d{{1,2}}-{_MONTH}(?:-\d\d(?:\d\d)?)?|{_MONTH}-\d{{1,2}}(?:\d\d)?"
    r"|\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?"
    r"|\d{1,2}/\d{1,2}/(?:19|20)\d\d|#(?:REF|DIV/0|NAME|VALUE|NUM|NULL)[!?]|#N/A|#+"
)
"""What a spreadsheet leaves in the place of a fraction or a formula: a date (3/4 became 3-Apr), or its name of an error."""

_NUMBER = r"(\d{1,4}(?:\.\d+)?)"
_LEVEL = re.compile(
    rf"(?i)\s*(?:(?:level|lvl|lv\.?|l|difficulty|grade|stage|tier)(?:\s*[:=#]?\s*|[-_])#?)?{_NUMBER}\s*"
)


@dataclass(frozen=True)
class Map:
    """Columns by the names they go by; the first that a row has counts.

    Attributes:
        questions: names, or one template of names in braces.
        answers: (column, where in it the answer stands): plain, boxed or hashes.
        own_id: the user named the id column, so a row must have it.
        own_level: the user named the level column.
    """

    name: str
    ids: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[tuple[str, str], ...]
    levels: tuple[str, ...] = ("level",)
    own_id: bool = False
    own_level: bool = False


MAPS = {
    found.name: found
    for found in (
        Map("plain", ("id",), ("question", "problem"), (("answer", "plain"),)),
        Map("math", ("unique_id", "id"), ("problem",), (("solution", "boxed"),)),
        Map("math500", ("unique_id",), ("problem",), (("answer", "plain"),)),
        Map("amc2023", ("id",), ("problem", "question"), (("answer", "plain"),)),
        Map("aime2024", ("id", "ID"), ("problem", "Problem"), (("answer", "plain"), ("Answer", "plain"))),
        Map("gsm8k", ("id",), ("question",), (("answer", "hashes"),)),
        Map("numina", ("id",), ("problem",), (("answer", "plain"), ("solution", "boxed"))),
    )
}


@dataclass(frozen=True, slots=True)
class Row:
    """A problem as its source has it.

    Attributes:
        id: None: the source has none.
        asked: the column or template that the question was read by.
        gold: None: the source has no answer where the map looks.
        given: what is there in the answer's place.
        level: 1 where there is none.
        no_level: what is there in the level's place but is no level; "": nothing, or a level.
        unread: columns beside the question that belong to it and are not read.
    """

    id: str | None
    asked: str
    question: str
    gold: str | None
    given: str
    level: int
    no_level: str = ""
    unread: tuple[str, ...] = field(default=())


def map_of(preset: str, fields: FieldMap) -> Map:
    """The map of `preset` with the user's own fields in place of its."""
    found = MAPS[preset]
    mode = fields.answer_in or found.answers[0][1]
    if fields.answer:
        found = replace(found, answers=((fields.answer, mode),))
    elif fields.answer_in:
        found = replace(found, answers=tuple((column, mode) for column, _ in found.answers))
    return replace(
        found,
        ids=() if fields.id is False else (fields.id,) if fields.id else found.ids,
        questions=(fields.question,) if fields.question else found.questions,
        levels=(fields.level,) if fields.level else found.levels,
        own_id=bool(fields.id),
        own_level=bool(fields.level),
    )


def read_row(row: object, columns: Map) -> Row:
    """The problem in a row.

    Raises:
        Unreadable: it is no mapping, or a field is missing, blank or of the wrong type.
    """
    row = as_object(row)
    question, name = read_question(row, columns.questions, columns.name)
    column, value = found_in(row, tuple(column for column, _ in columns.answers), "answer", columns.name)
    given = _answer_text(value, column)
    level, no_level = _level(row, columns)
    others = (*columns.ids, *columns.levels, *(answer for answer, _ in columns.answers))
    for text, where in ((question, name), (given, column)):
        if not is_utf8(text):  # half of a surrogate pair, which JSON can hold and UTF-8 cannot
            raise Unreadable(f"field {where!r}: no valid text: half of a surrogate pair")
    return Row(
        id=identifier(row, columns.ids, own=columns.own_id),
        asked=name,
        question=question,
        gold=_answer(given, dict(columns.answers)[column]),
        given=given,
        level=level,
        no_level=no_level,
        unread=tuple(unread_columns(row, name, others, question)),
    )


# --- the answer and the level ------------------------------------------------------------------------------------------


def _answer_text(value: object, name: str) -> str:
    """An answer as text; the only item of a list as that item."""
    given = value
    if isinstance(value, list) and len({repr(item) for item in value}) == 1:
        value = value[0]
    if value is None or value == []:
        return ""
    text = value.strip() if isinstance(value, str) else number_text(value)
    if text is None:
        remedy = inside(name, given)
        if isinstance(given, list) and not remedy:
            remedy = f" of {len(given)} answers: which of them count is not said; write them as one text"
        raise Unreadable(f"field {name!r}: expected a text or a number, got {shown(given)}{remedy}")
    return text


def _answer(given: str, mode: str) -> str | None:
    """The answer inside what the column holds."""
    if mode == "hashes":
        _, mark, given = given.rpartition("####")
        given = given if mark else ""
    elif mode == "boxed":
        found = boxes(given)
        given = given[found[-1][1] : found[-1][2] - 1] if found else ""
    given = given.strip()
    return None if given.lower() in NO_ANSWER or SPREADSHEET.fullmatch(given) else given


def _level(row: Mapping, columns: Map) -> tuple[int, str]:
    """(level, what is there instead of one). A number from 1 on, alone or behind "Level"; a fraction counts as its whole part."""
    value = next((v for name in columns.levels if (v := get(row, name)) is not None), None)
    if value is None:
        return 1, f"nothing in field {columns.levels[0]!r}" if columns.own_level else ""
    written = number_text(value) if not isinstance(value, str) else value
    found = _LEVEL.fullmatch(written) if written is not None else None
    level = int(Decimal(found[1])) if found else 0
    return (level, "") if level >= 1 else (1, shown(value))

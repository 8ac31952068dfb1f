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
from dataclasses import dataclass, replace

from astro.domains.math.text import boxes
from astro.runtime import UserError
from schemas.problems import FieldMap

NO_ANSWER = {"", "proof", "notfound", "not found", "none", "null", "n/a", "nan"}
"""What public sets write where a problem has no final answer (NuminaMath 1.5: "proof", "notfound")."""


@dataclass(frozen=True)
class Map:
    """Columns by the names they go by; the first that a row has counts.

    Attributes:
        answers: (column, where in it the answer stands): plain, boxed or hashes.
        own_id: the user named the id column, so a row must have it.
    """

    name: str
    ids: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[tuple[str, str], ...]
    levels: tuple[str, ...] = ("level",)
    own_id: bool = False


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


@dataclass(frozen=True)
class Row:
    """A problem as its source has it. gold None: the source has no answer where the map looks; `given` is what is there."""

    id: str | None
    question: str
    gold: str | None
    given: str
    level: int


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
        ids=(fields.id,) if fields.id else found.ids,
        questions=(fields.question,) if fields.question else found.questions,
        levels=(fields.level,) if fields.level else found.levels,
        own_id=bool(fields.id),
    )


def read_row(row: object, columns: Map, where: str) -> Row:
    """The problem in a row.

    Raises:
        UserError: it is no mapping, or a field is missing, blank or of the wrong type; names `where` and the field.
    """
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: expected a JSON object with named fields, got {type(row).__name__}")
    question = _found(row, columns.questions, columns, where)
    if not isinstance(question[1], str) or not question[1].strip():
        raise UserError(f"{where}: field {question[0]!r}: expected a text that is not blank, got {_shown(question[1])}")
    name, value = _found(row, tuple(column for column, _ in columns.answers), columns, where)
    given = _text(value, name, where)
    return Row(
        id=_identifier(row, columns, where),
        question=question[1].strip(),
        gold=_answer(given, dict(columns.answers)[name]),
        given=given,
        level=_level(next((v for n in columns.levels if (v := _get(row, n)) is not None), None)),
    )


def _get(row: Mapping, name: str) -> object:
    """A column, or "a.b" inside one; None where it is not there."""
    if name in row:
        return row[name]
    value: object = row
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _found(row: Mapping, names: tuple[str, ...], columns: Map, where: str) -> tuple[str, object]:
    """The first of the columns that the row has: (name, value)."""
    for name in names:
        if _get(row, name) is not None:
            return name, _get(row, name)
    for name in names:
        if name in row:  # there, and null
            return name, None
    wanted = " or ".join(map(repr, names))
    has = ", ".join(sorted(map(str, row))) or "no field at all"
    raise UserError(f"{where}: field {wanted}: missing (map {columns.name}); the row has: {has}")


def _text(value: object, name: str, where: str) -> str:
    """An answer as text: a whole float (AMC's 27.0) as the whole number it is."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{where}: field {name!r}: expected a text or a number, got {_shown(value)}")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _answer(given: str, mode: str) -> str | None:
    """The answer inside what the column holds."""
    if mode == "hashes":
        _, mark, given = given.rpartition("####")
        given = given if mark else ""
    elif mode == "boxed":
        found = boxes(given)
        given = given[found[-1][1] : found[-1][2] - 1] if found else ""
    given = given.strip()
    return None if given.lower() in NO_ANSWER else given


def _identifier(row: Mapping, columns: Map, where: str) -> str | None:
    """The row's own id; None: it has none."""
    value = next((v for name in columns.ids if (v := _get(row, name)) is not None), None)
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if columns.own_id or value is not None:
        raise UserError(
            f"{where}: field {columns.ids[0]!r}: expected an id (a text or a whole number), got {_shown(value)}"
        )
    return None


def _level(value: object) -> int:
    """A whole number of at least 1; 1 where there is none ("Level ?")."""
    digits = re.search(r"\d{1,4}", str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None
    return max(1, int(digits[0])) if digits else 1


def _shown(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {repr(value)[:60]}"

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
| openr1 | open-r1/OpenR1-Math-220k: uuid, problem, solution, answer, problem_is_valid, solution_is_valid |
| aime2025 | math-ai/aime25, opencompass/AIME2025, MathArena/aime_2025: problem or question, answer |
| svamp | ChilleD/SVAMP and SVAMP.json: ID, Body, Question, Answer |
| asdiv | EleutherAI/asdiv: body, question, answer ("9 (apples)") |
| aqua | deepmind/aqua_rat: question, options (["A)21", ...]), correct ("A") |
| olympiadbench | Hothan/OlympiadBench: id, context, question, final_answer (a list), unit, answer_type, error, modality |
| omnimath | KbsdJames/Omni-MATH: problem, answer, difficulty (5.25) |
| dapo17k | BytedTsinghua-SIA/DAPO-Math-17k: prompt (messages), reward_model.ground_truth; open-r1's copy: prompt (a text) |
| deepscaler | agentica-org/DeepScaleR-Preview-Dataset: problem, answer, solution |
| bigmath | SynthLabsAI/Big-Math-RL-Verified: problem, answer, source, domain, llama8b_solve_rate |

`countdown3to4` is for Countdown (Jiayi-Pan/Countdown-Tasks-3to4: nums, target), whose importer knows these columns.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from astro.importing.question_text import read_question, trimmed, unread_columns
from astro.importing.row_fields import (
    Unreadable,
    as_object,
    first_of,
    found_in,
    identifier,
    inside,
    is_utf8,
    number_text,
    opened,
    shown,
)
from astro.importing.sources import Filter, own_filters
from astro.process import UserError
from astro.tasks.math.solution_text import boxes
from schemas.problems import Cell, FieldMap, SourceSpec

NO_ANSWER = {"", "proof", "notfound", "not found", "none", "null", "n/a", "nan"}
"""Texts in public sets that mean: no final answer (NuminaMath 1.5 writes "proof" and "notfound")."""

_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
SPREADSHEET = re.compile(
    rf"(?i)\d{{1,2}}-{_MONTH}(?:-\d\d(?:\d\d)?)?|{_MONTH}-\d{{1,2}}(?:\d\d)?"
    r"|\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?"
    r"|\d{1,2}/\d{1,2}/(?:19|20)\d\d|#(?:REF|DIV/0|NAME|VALUE|NUM|NULL)[!?]|#N/A|#+"
)
"""Artefacts of spreadsheets in place of a fraction or a formula: a date (3/4 became 3-Apr), or the name of an error."""

_NUMBER = r"(\d{1,4}(?:\.\d+)?)"
_LEVEL = re.compile(
    rf"(?i)\s*(?:(?:level|lvl|lv\.?|l|difficulty|grade|stage|tier)(?:\s*[:=#]?\s*|[-_])#?)?{_NUMBER}\s*"
)


@dataclass(frozen=True)
class Map:
    """Names of the columns of a source. The first one that a row has is used.

    Attributes:
        questions: column names, or one template with column names in braces.
        answers: (column, place of the answer in it): plain, boxed or hashes.
        trim: texts around a question that do not belong to it.
        several: whether all answers of a list are required together.
        data: columns that the task needs.
        where: column -> accepted values; a row without the column is read.
        own_id: whether the user named the id column, so that a row must have it.
        own_level: whether the user named the level column.
    """

    name: str
    ids: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[tuple[str, str], ...]
    levels: tuple[str, ...] = ("level",)
    trim: tuple[str, ...] = ()
    several: bool = False
    data: tuple[str, ...] = ()
    where: Mapping[str, Sequence[Cell]] = field(default_factory=dict)
    own_id: bool = False
    own_level: bool = False


_DAPO = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: $Answer "
    "(without quotes) where $Answer is the answer to the problem.",
    'Remember to put your answer on its own line after "Answer:".',
)
_PROBLEM_ANSWER = (("problem", "question"), (("answer", "plain"),))

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
        Map(
            "openr1",
            ("uuid", "id"),
            *_PROBLEM_ANSWER,
            where={"problem_is_valid": ["Yes"], "solution_is_valid": ["Yes"]},
        ),
        Map("aime2025", ("id", "problem_idx"), *_PROBLEM_ANSWER),
        Map("svamp", ("id",), ("{Body} {Question}",), (("answer", "plain"),)),
        Map("asdiv", ("id",), ("{body} {question}",), (("answer", "plain"),), ("grade",)),
        Map("aqua", ("id",), ("{question} {options}",), (("correct", "plain"),)),
        Map(
            "olympiadbench",
            ("id",),
            ("[[{context}\n\n]]{question}[[\n\nGive the answer in {unit}.]]",),
            (("final_answer", "plain"),),
            several=True,
            where={
                "modality": ["Text-only"],
                "question_type": ["Open-ended"],
                "answer_type": ["Numerical", "Expression", "Equation", "Interval", "Tuple"],
                "error": [None],  # tolerances, which grading does not support
            },
        ),
        Map("omnimath", ("id",), *_PROBLEM_ANSWER, ("difficulty",)),
        Map(
            "dapo17k",
            ("extra_info.index",),
            ("prompt[user].content", "prompt"),
            (("reward_model.ground_truth", "plain"), ("solution", "plain")),
            trim=_DAPO,
        ),
        Map("deepscaler", ("id",), *_PROBLEM_ANSWER),
        Map("bigmath", ("id",), *_PROBLEM_ANSWER),
    )
}


@dataclass(frozen=True, slots=True)
class Row:
    """A problem as its source has it.

    Attributes:
        id: None: the source has none.
        asked: the column or template of the question.
        gold: None: there is no answer where the map looks.
        rivals: further answers of its list, which must be equivalent.
        answered: the column of the answer.
        given: the content of that column.
        level: 1 if there is none.
        no_level: content of the level column that is not a level; "": it is empty or a level.
        unread: columns that belong to the question but are not read.
        data: what the task needs, by column.
    """

    id: str | None
    asked: str
    question: str
    gold: str | None
    answered: str
    given: str
    level: int
    no_level: str = ""
    unread: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    data: dict | None = None


def map_of(preset: str, fields: FieldMap) -> Map:
    """The map of `preset`, with the user's own fields in place of its fields.

    Raises:
        UserError: the preset is for Countdown.
    """
    if preset not in MAPS:
        raise UserError(f"preset {preset} is for run.task countdown")
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
        trim=tuple(fields.trim) or found.trim,
        several=bool(fields.several) or found.several,
        data=tuple(fields.data),
        own_id=bool(fields.id),
        own_level=bool(fields.level),
    )


def filters_of(spec: SourceSpec) -> list[Filter]:
    """The filters of a source: those of the preset, overridden by the user's own filters on the same columns."""
    own = own_filters(spec)
    given = MAPS[spec.preset].where if spec.preset in MAPS else {}
    return [
        Filter(column, tuple(values), own=False) for column, values in given.items() if column not in spec.where
    ] + own


def read_row(row: object, columns: Map) -> Row:
    """Read the problem in a row.

    Raises:
        Unreadable: the row has no named fields, or a field is missing, blank or of the wrong type.
    """
    row = as_object(row)
    question, name = read_question(row, columns.questions, columns.name)
    column, value = found_in(row, tuple(column for column, _ in columns.answers), "answer", columns.name)
    question = trimmed(question, columns.trim)
    items = _answer_texts(value, column)
    mode = dict(columns.answers)[column]
    golds = [gold for item in items if (gold := _answer(item, mode)) is not None]
    golds = [", ".join(golds)] if golds and columns.several else list(dict.fromkeys(golds))
    given = ", ".join(items)
    level, no_level = _level(row, columns)
    others = (*columns.ids, *columns.levels, *(answer for answer, _ in columns.answers))
    for text, where in ((question, name), (given, column)):
        if not is_utf8(text):  # half of a surrogate pair, which JSON allows and UTF-8 does not
            raise Unreadable(f"field {where!r}: invalid text: half of a surrogate pair")
    return Row(
        id=identifier(row, columns.ids, own=columns.own_id),
        asked=name,
        question=question,
        gold=golds[0] if golds else None,
        answered=column,
        given=given,
        level=level,
        no_level=no_level,
        unread=tuple(unread_columns(row, name, others, question)),
        rivals=tuple(golds[1:]),
        data={name: plain_json(found_in(row, (name,), "data", columns.name)[1], name) for name in columns.data} or None,
    )


def plain_json(value: object, name: str) -> object:
    """Convert a cell to a JSON value, so that a problem can store it.

    Raises:
        Unreadable: it cannot be written as JSON.
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        raise Unreadable(f"field {name!r}: expected texts, numbers, lists and objects, got {shown(value)}") from None


# --- the answer and the level ------------------------------------------------------------------------------------------


def _answer_texts(value: object, name: str) -> list[str]:
    """The answers of a column as texts: one, or those of a list."""
    listed = opened(value)
    items = listed if isinstance(listed, list) else [value]
    texts = [item.strip() if isinstance(item, str) else number_text(item) for item in items if item is not None]
    if None in texts:
        raise Unreadable(f"field {name!r}: expected a text or a number, got {shown(value)}{inside(name, value)}")
    return [text for text in texts if text is not None]


def _answer(given: str, mode: str) -> str | None:
    """Extract the answer from the content of its column."""
    if mode == "hashes":
        _, mark, given = given.rpartition("####")
        given = given if mark else ""
    elif mode == "boxed":
        found = boxes(given)
        given = given[found[-1][1] : found[-1][2] - 1] if found else ""
    given = given.strip()
    return None if given.lower() in NO_ANSWER or SPREADSHEET.fullmatch(given) else given


def _level(row: Mapping, columns: Map) -> tuple[int, str]:
    """(level, invalid content instead of one). A level is a number from 1, alone or after "Level"; fractions are rounded down."""
    found = first_of(row, columns.levels)
    value = found[1] if found else None
    if value is None:
        return 1, f"nothing in field {columns.levels[0]!r}" if columns.own_level else ""
    written = number_text(value) if not isinstance(value, str) else value
    number = _LEVEL.fullmatch(written) if written is not None else None
    level = int(Decimal(number[1])) if number else 0
    return (level, "") if level >= 1 else (1, shown(value))

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from astro.domains.math.text import boxes
from astro.importing.sources import is_utf8
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

EXACT_DIGITS = 15
"""Decimal digits that a float keeps, whatever they are."""

HUGE = 1000
"""Digits of a number that is too long to be written out."""

_NUMBER = r"(\d{1,4}(?:\.\d+)?)"
_LEVEL = re.compile(
    rf"(?i)\s*(?:(?:level|lvl|lv\.?|l|difficulty|grade|stage|tier)(?:\s*[:=#]?\s*|[-_])#?)?{_NUMBER}\s*"
)
_PART = re.compile(r"([^.\[\]]+)|\[(-?\d+)\]")
_PLACE = re.compile(r"\{([^{}]+)\}")
_LETTERED = re.compile(r"\s*[(\[]?\s*([A-Za-z]|\d{1,2})\s*[).:\]、．]")

BEFORE = ("body", "context", "passage", "premise", "background", "stem", "story", "table", "paragraph", "instruction")
AFTER = ("input", "options", "option", "choices", "choice", "candidates", "unit", "units")
LETTERS = tuple("ABCDEF")
"""Columns of such names, beside the question, belong to it: what stands before it in a text, and what after it."""


class Unreadable(ValueError):
    """A row holds no problem; the message names the field and the remedy."""


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
    question, name = _question(row, columns)
    column, value = found_in(row, tuple(column for column, _ in columns.answers), "answer", columns.name)
    given = _answer_text(value, column)
    level, no_level = _level(row, columns)
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
        unread=tuple(_unread(row, columns, name, question)),
    )


# --- fields of a row ---------------------------------------------------------------------------------------------------


def as_object(row: object) -> Mapping:
    """The row. Raises Unreadable: it has no named fields."""
    if not isinstance(row, Mapping):
        raise Unreadable(f"expected a JSON object with named fields, got {type(row).__name__}")
    return row


def get(row: object, name: str) -> object:
    """A column, "a.b" or "a[-1].b" inside one; None where it is not there."""
    if isinstance(row, Mapping) and name in row:
        return row[name]
    value: object = row
    for key, index in _PART.findall(name):
        if key and isinstance(value, Mapping):
            value = value.get(key)
        elif index and isinstance(value, Sequence) and not isinstance(value, str | bytes):
            value = value[int(index)] if -len(value) <= int(index) < len(value) else None
        else:
            return None
    return value


def found_in(row: Mapping, names: Sequence[str], what: str, map_name: str) -> tuple[str, object]:
    """The first of the columns that the row has: (name, value).

    Args:
        what: the entry of `fields` that names the column, for the message; "": it has to have this name.

    Raises:
        Unreadable: it has none of them.
    """
    for name in names:
        if (value := get(row, name)) is not None:
            return name, value
    for name in names:
        if _is_there(row, name):
            return name, None
    wanted = " or ".join(map(repr, names))
    has = ", ".join(sorted(map(str, row))) or "no field at all"
    remedy = f"; name the right column in fields.{what}" if what else f"; rename the column to {names[0]!r}"
    raise Unreadable(f"field {wanted}: missing (map {map_name}); the row has: {has}{remedy}")


def identifier(row: Mapping, names: Sequence[str], *, own: bool) -> str | None:
    """The row's own id; None: it has none.

    Raises:
        Unreadable: what is there is no id; or nothing is, where the user named the column.
    """
    value = next((v for name in names if (v := get(row, name)) is not None), None)
    if isinstance(value, str) and value.strip() and is_utf8(value):
        return value.strip()
    number = None if isinstance(value, bool) else whole_number(value)
    if number is not None:
        return str(number)
    if own or value is not None:
        raise Unreadable(
            f"field {names[0]!r}: expected an id (a text or a whole number), got {shown(value)}; "
            "fields.id: false numbers the rows"
        )
    return None


def whole_number(value: object) -> int | None:
    """3 of 3 and of 3.0; None: it is no whole number."""
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal):
        whole = value.is_finite() and value.adjusted() < HUGE and value == value.to_integral_value()
        return int(value) if whole else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def shown(value: object) -> str:
    """A value in a message: its kind, and how it begins."""
    kinds = {dict: "an object", list: "a list", bytes: "bytes", type(None): "nothing", Decimal: "number"}
    kind = kinds.get(type(value), type(value).__name__)
    if value is None:
        return kind
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return f"{kind} {text[:60]}"


def _inside(name: str, value: object) -> str:
    """How to name what is inside a value that is itself no text: the remedy of a message."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        keys = [f"{name}[-1].{key}" for key in value[0]]
        best = next((key for key in keys if key.endswith((".content", ".value", ".text"))), keys[0] if keys else "")
        return f"; name one item, such as {best}"
    if isinstance(value, Mapping) and value:
        return "; name what is inside, such as " + " or ".join(f"{name}.{key}" for key in list(value)[:4])
    return ""


# --- the question ------------------------------------------------------------------------------------------------------


def _question(row: Mapping, columns: Map) -> tuple[str, str]:
    """(what is asked, the name or template it was read by)."""
    template = columns.questions[0]
    places = _PLACE.findall(template)
    if places:
        text, at = "", 0
        for place in _PLACE.finditer(template):
            _, part = found_in(row, (place[1],), "question", columns.name)
            text = _joined(text + template[at : place.start()], rendered(part, place[1]))
            at = place.end()
        name, value = template, (text + template[at:])
    else:
        name, found = found_in(row, columns.questions, "question", columns.name)
        if not isinstance(found, str):
            raise Unreadable(
                f"field {name!r}: expected a text that is not blank, got {shown(found)}{_inside(name, found)}"
            )
        value = found
    if not value.strip():
        raise Unreadable(f"field {name!r}: expected a text that is not blank, got {shown(value)}")
    return value.strip(), name


def _is_there(row: Mapping, name: str) -> bool:
    """Is there such a column, if only with nothing in it?"""
    parent, _, last = name.rpartition(".")
    inside = get(row, parent) if parent else row
    return name in row or (isinstance(inside, Mapping) and last in inside)


def _joined(text: str, value: str) -> str:
    """A list begins on a line of its own."""
    return text.rstrip(" ") + value if value.startswith("\n") else text + value


def rendered(value: object, name: str) -> str:
    """A value as a part of a question; a list of options as lines "A. ...", unless they are lettered already.

    Raises:
        Unreadable: it is neither a text, a number, nor a list or an object of these.
    """
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return "".join(f"\n{line}" for line in _options(value, name))
    if isinstance(value, str):
        return value.strip()
    text = number_text(value)
    if text is None:
        raise Unreadable(f"field {name!r}: expected a text, a number or a list of these, got {shown(value)}")
    return text


def _options(value: list | dict, name: str) -> list[str]:
    """The lines of a list of options: texts, {"A": text}, {"text": [...], "label": [...]}, [{"label": "A", "text": text}]."""
    labels: Sequence[object] = ()
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        labels, items = value.get("label") or (), value["text"]
    elif isinstance(value, dict):
        labels, items = list(value), list(value.values())
    elif value and all(isinstance(item, dict) and "text" in item for item in value):
        labels, items = [item.get("label") for item in value], [item["text"] for item in value]
    else:
        items = value
    texts = [rendered(item, name).strip("\n") for item in items]
    if any("\n" in text for text, item in zip(texts, items, strict=True) if isinstance(item, list | dict)):
        raise Unreadable(f"field {name!r}: expected options as a list of texts, got {shown(value)}")
    marks = [mark[1] if (mark := _LETTERED.match(text)) else "" for text in texts]
    lettered = (
        len(marks) > 1
        and marks[0] in ("A", "a", "1")
        and [ord(m[0]) for m in marks if len(m) == 1] == list(range(ord(marks[0]), ord(marks[0]) + len(marks)))
    )
    if lettered:
        return texts
    named = [str(label) for label in labels if isinstance(label, str | int) and not isinstance(label, bool)]
    if len(named) != len(texts):
        named = [chr(ord("A") + i) if i < 26 else str(i + 1) for i in range(len(texts))]
    return [f"{label}. {text}" for label, text in zip(named, texts, strict=True)]


def _unread(row: Mapping, columns: Map, name: str, question: str) -> Iterator[str]:
    """Names of columns that belong to the question, hold something that it does not say, and are not read."""
    names = _PLACE.findall(name) or [name]
    read = {*names, *columns.ids, *columns.levels, *(column for column, _ in columns.answers)}
    tops = {_PART.findall(found)[0][0] for found in read}
    parent = names[0].rpartition(".")[0] if names[0] not in row else ""
    inside = get(row, parent) if parent else None
    sides = [(row, ""), *([(inside, f"{parent}.")] if isinstance(inside, Mapping) else [])]
    for columns_there, prefix in sides:
        letters = [key for key in columns_there if key in LETTERS]
        for key, value in columns_there.items():
            folded = re.sub(r"[\s_-]?[a-f1-6]$", "", str(key).casefold())
            known = (
                str(key).casefold() in (*BEFORE, *AFTER)
                or (folded in ("option", "choice", "answer_option") and folded != str(key).casefold())
                or (key in letters and len(letters) >= 3)
            )
            if not known or f"{prefix}{key}" in read or (not prefix and str(key) in tops):
                continue
            if not _said(value, str(key), question):
                yield f"{prefix}{key}"


def _said(value: object, name: str, question: str) -> bool:
    """Does the question say the value, or is there nothing to say?"""
    try:
        lines = rendered(value, name).strip().split("\n") if value not in (None, [], {}, "") else []
    except Unreadable:
        return False
    bare = [re.sub(_LETTERED, "", line, count=1).strip() if isinstance(value, list | dict) else line for line in lines]
    return all(re.search(rf"(?<!\w){re.escape(text)}(?!\w)", question) for text in bare)


def joined_template(name: str, unread: Sequence[str]) -> str:
    """The template that reads these columns too: the remedy of a question in several columns."""
    asked = name if _PLACE.search(name) else f"{{{name}}}"
    before = [f"{{{n}}}" for n in unread if n.rpartition(".")[2].casefold() in BEFORE]
    after = [f"{{{n}}}" for n in unread if n.rpartition(".")[2].casefold() not in BEFORE]
    return " ".join([*before, asked, *after])


# --- the answer and the level ------------------------------------------------------------------------------------------


def number_text(value: object) -> str | None:
    """A number as text with the digits that it was written with, a whole one without a point; None: it is no number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, float | Decimal):
        return None
    number = value if isinstance(value, Decimal) else Decimal(repr(value))
    if not number.is_finite():
        return None
    if abs(number.adjusted()) >= HUGE:
        return str(number)
    if number != number.to_integral_value():
        return f"{number:f}"
    _, digits, exponent = number.as_tuple()
    # Python writes floats from 1e16 on with an exponent, and then the last of 17 digits are not those of the number.
    rounded = isinstance(exponent, int) and exponent > 0 and len(digits) > EXACT_DIGITS
    return str(int(float(number)) if rounded else int(number))


def _answer_text(value: object, name: str) -> str:
    """An answer as text; the only item of a list as that item."""
    given = value
    if isinstance(value, list) and len({repr(item) for item in value}) == 1:
        value = value[0]
    if value is None or value == []:
        return ""
    text = value.strip() if isinstance(value, str) else number_text(value)
    if text is None:
        remedy = _inside(name, given)
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
        return 1, f"no field {columns.levels[0]!r}" if columns.own_level else ""
    written = number_text(value) if not isinstance(value, str) else value
    found = _LEVEL.fullmatch(written) if written is not None else None
    level = int(Decimal(found[1])) if found else 0
    return (level, "") if level >= 1 else (1, shown(value))

"""The question of a row: in one column or joined from several, and which columns beside it belong to it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from astro.importing.fields import Unreadable, found_in, get, inside, number_text, shown

_PLACE = re.compile(r"\{([^{}]+)\}")
_LETTERED = re.compile(r"\s*[(\[]?\s*([A-Za-z]|\d{1,2})\s*[).:\]、．]")

BEFORE = ("body", "context", "passage", "premise", "background", "stem", "story", "table", "paragraph", "instruction")
AFTER = ("input", "options", "option", "choices", "choice", "candidates", "unit", "units")
"""Columns of such names, beside the question, belong to it: what stands before it in a text, and what after it."""

_NUMBERED = re.compile(r"(?i)(?:option|choice)[\s_-]?[a-f1-6]")
LETTERS, FEWEST_LETTERS = frozenset("ABCDEF"), 3
"""So are columns that are named by letters alone, if there are several."""


def read_question(row: Mapping, names: Sequence[str], map_name: str) -> tuple[str, str]:
    """(what is asked, the name or template it was read by). names: of the columns that may hold it, or one template.

    Raises:
        Unreadable: a column is missing, or is no text, or all of it is blank.
    """
    places = list(_PLACE.finditer(names[0]))
    if places:
        name, text, at = names[0], "", 0
        for place in places:
            part = rendered(found_in(row, (place[1],), "question", map_name)[1], place[1])
            text += names[0][at : place.start()]
            text = (
                text.rstrip(" ") + part if part.startswith("\n") else text + part
            )  # a list begins on a line of its own
            at = place.end()
        value: object = text + names[0][at:]
    else:
        name, value = found_in(row, names, "question", map_name)
    if not isinstance(value, str) or not value.strip():
        raise Unreadable(f"field {name!r}: expected a text that is not blank, got {shown(value)}{inside(name, value)}")
    return value.strip(), name


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
    marks = "".join(mark[1] if (mark := _LETTERED.match(text)) else " " for text in texts)
    if len(marks) > 1 and marks in ("ABCDEFGHIJ"[: len(marks)], "abcdefghij"[: len(marks)], "123456789"[: len(marks)]):
        return texts
    named = [str(label) for label in labels if isinstance(label, str | int) and not isinstance(label, bool)]
    if len(named) != len(texts):
        named = [chr(ord("A") + i) if i < 26 else str(i + 1) for i in range(len(texts))]
    return [f"{label}. {text}" for label, text in zip(named, texts, strict=True)]


def unread_columns(row: Mapping, name: str, others: Iterable[str], question: str) -> Iterator[str]:
    """Names of columns that belong to the question, hold something that it does not say, and are not read.

    Args:
        name: the column or template that the question was read by; its neighbours inside an object count, too.
        others: the columns that are read for something else.
    """
    names = _PLACE.findall(name) or [name]
    read = {*names, *others}
    parent = names[0].rpartition(".")[0] if names[0] not in row else ""
    beside = get(row, parent) if parent else None
    for columns, prefix in ((row, ""), (beside, f"{parent}.")):
        if not isinstance(columns, Mapping):
            continue
        choices = LETTERS if len(LETTERS.intersection(columns)) >= FEWEST_LETTERS else ()
        for key, value in columns.items():
            full = f"{prefix}{key}"
            known = str(key).casefold() in (*BEFORE, *AFTER) or _NUMBERED.fullmatch(str(key)) or key in choices
            if not known or any(n == full or n.startswith((f"{full}.", f"{full}[")) for n in read):
                continue
            if not _says(question, value, full):
                yield full


def _says(question: str, value: object, name: str) -> bool:
    """Does the question say the value, or is there nothing to say?"""
    if value is None:
        return True
    try:
        lines = rendered(value, name).strip().split("\n")
    except Unreadable:
        return False
    said = [_LETTERED.sub("", line, count=1).strip() for line in lines] if isinstance(value, list | dict) else lines
    return all(re.search(rf"(?<!\w){re.escape(text)}(?!\w)", question) for text in said if text)


def joined_template(name: str, unread: Sequence[str]) -> str:
    """The template that reads these columns too: the remedy of a question in several columns."""
    asked = name if _PLACE.search(name) else f"{{{name}}}"
    before = [f"{{{n}}}" for n in unread if n.rpartition(".")[2].casefold() in BEFORE]
    after = [n for n in unread if n.rpartition(".")[2].casefold() not in BEFORE]
    lettered = [f"({n[-1].upper()}) {{{n}}}" if n in LETTERS or _NUMBERED.fullmatch(n) else f"{{{n}}}" for n in after]
    return " ".join([*before, asked, *lettered])

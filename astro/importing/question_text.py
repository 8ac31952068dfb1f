"""The question of a row: it comes from one column, or is joined from several. Other columns may belong to it as well."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from astro.importing.row_fields import Unreadable, found_in, get, inside, is_there, number_text, opened, shown

_PLACE = re.compile(r"\{([^{}]+)\}")
_OPTIONAL = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_LETTERED = re.compile(r"\s*[(\[]?\s*([A-Za-z]|\d{1,2})\s*[).:\]、．]")

BEFORE = ("body", "context", "passage", "premise", "background", "stem", "story", "table", "paragraph", "instruction")
AFTER = ("input", "options", "option", "choices", "choice", "candidates", "unit", "units")
"""Names of columns that belong to a question: those that come before it in a text, and those that come after it."""

_NUMBERED = re.compile(r"(?i)(?:option|choice)[\s_-]?[a-f1-6]")
LETTERS, FEWEST_LETTERS = frozenset("ABCDEF"), 3
"""Columns named by single letters also belong to the question if there are at least this many."""

LABELS, TEXTS = ("label", "key", "letter", "id"), ("text", "value", "content", "answer")
"""Names of fields in an object that is one option: for its letter, and for its text."""


def read_question(row: Mapping, names: Sequence[str], map_name: str) -> tuple[str, str]:
    """(the question, the column or template that it came from).

    A part of a template in [[double brackets]] is left out if a column in it is empty or missing.

    Args:
        names: columns that may hold it, or one template.

    Raises:
        Unreadable: a column is missing or not text, or everything is blank.
    """
    if _PLACE.search(names[0]):
        name = names[0]

        def optional(part: re.Match) -> str:
            has = (is_there(row, n) and rendered(found_in(row, (n,), "", "")[1], n) for n in _PLACE.findall(part[1]))
            return part[1] if all(has) else ""

        value: object = _filled(_OPTIONAL.sub(optional, name), row, map_name)
    else:
        name, value = found_in(row, names, "question", map_name)
    messages = opened(value)
    if (
        isinstance(messages, list) and messages and isinstance(messages[0], Mapping)
    ):  # a cell with a serialized list is not a question
        value = messages
    if not isinstance(value, str) or not value.strip():
        raise Unreadable(f"field {name!r}: expected a text that is not blank, got {shown(value)}{inside(name, value)}")
    return value.strip(), name


def _filled(template: str, row: Mapping, map_name: str) -> str:
    """Fill in the columns that a template names."""
    text, at = "", 0
    for place in _PLACE.finditer(template):
        part = rendered(found_in(row, (place[1],), "question", map_name)[1], place[1])
        text += template[at : place.start()]
        text = text.rstrip(" ") + part if part.startswith("\n") else text + part  # a list begins on its own line
        at = place.end()
    return text + template[at:]


def trimmed(question: str, texts: Iterable[str]) -> str:
    """Remove these texts from the front and the end of a question, however they are spaced.

    Raises:
        Unreadable: nothing is left.
    """
    for text in texts:
        pattern = r"\s+".join(map(re.escape, text.split()))
        question = re.sub(rf"\A\s*{pattern}|{pattern}\s*\Z", "", question).strip() if pattern else question
    if not question:
        raise Unreadable("no question remains after the texts of fields.trim are removed")
    return question


def rendered(value: object, name: str) -> str:
    """Format a value as part of a question. A list of options becomes lines "A. ...", unless they have letters already.

    Raises:
        Unreadable: it is not a text, a number, or a list or object of these.
    """
    value = opened(value)
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
    """Format a list of options as lines.

    It may be texts, {"A": text}, {"text": [...], "label": [...]}, [{"label": "A", "text": text}], [{"A": text}] or [["A",
    text]].
    """
    labels: Sequence[object] = ()
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        labels, items = value.get("label") or (), value["text"]
    elif isinstance(value, dict):
        labels, items = list(value), list(value.values())
    elif value and all(pairs := [_pair(item) for item in value]):
        labels, items = zip(*filter(None, pairs), strict=True)
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


def _pair(option: object) -> tuple[object, object] | None:
    """The letter and the text of an option; None: it is not an object or list of these two."""
    if isinstance(option, list):
        pair = len(option) == 2 and isinstance(option[0], str) and re.fullmatch("[A-Za-z]", option[0])
        return (option[0], option[1]) if pair else None
    if not isinstance(option, dict):
        return None
    text = next((key for key in TEXTS if key in option), None)
    if text is not None:
        return next((option[key] for key in LABELS if key in option), None), option[text]
    return next(iter(option.items())) if len(option) == 1 else None


def unread_columns(row: Mapping, name: str, others: Iterable[str], question: str) -> Iterator[str]:
    """Names of columns that belong to the question and contain something that it does not say, but are not read.

    Args:
        name: the column or template of the question. Its neighbours inside an object are checked too.
        others: columns that are read for something else.
    """
    names = _PLACE.findall(name) or [name]
    read = {name.casefold() for name in (*names, *others)}
    parent = names[0].rpartition(".")[0] if names[0] not in row else ""
    beside = get(row, parent) if parent else None
    for columns, prefix in ((row, ""), (beside, f"{parent}.")):
        if not isinstance(columns, Mapping):
            continue
        choices = LETTERS if len(LETTERS.intersection(columns)) >= FEWEST_LETTERS else ()
        for key, value in columns.items():
            full = f"{prefix}{key}"
            known = str(key).casefold() in (*BEFORE, *AFTER) or _NUMBERED.fullmatch(str(key)) or key in choices
            folded = full.casefold()
            if not known or any(n == folded or n.startswith((f"{folded}.", f"{folded}[")) for n in read):
                continue
            if not _says(question, value, full):
                yield full


def _says(question: str, value: object, name: str) -> bool:
    """Whether the question already says the value, or the value is empty."""
    if value is None:
        return True
    try:
        lines = rendered(value, name).strip().split("\n")
    except Unreadable:
        return False
    listed = isinstance(opened(value), list | dict)
    said = [_LETTERED.sub("", line, count=1).strip() for line in lines] if listed else lines
    return all(re.search(rf"(?<!\w){re.escape(text)}(?!\w)", question) for text in said if text)


def joined_template(name: str, unread: Sequence[str]) -> str:
    """The template that also reads these columns: the remedy for a question in several columns."""
    asked = name if _PLACE.search(name) else f"{{{name}}}"
    before = [f"{{{n}}}" for n in unread if n.rpartition(".")[2].casefold() in BEFORE]
    after = [n for n in unread if n.rpartition(".")[2].casefold() not in BEFORE]
    lettered = [f"({n[-1].upper()}) {{{n}}}" if n in LETTERS or _NUMBERED.fullmatch(n) else f"{{{n}}}" for n in after]
    return " ".join([*before, asked, *lettered])

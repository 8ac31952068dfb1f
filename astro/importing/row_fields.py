"""Fields of a row: by name, inside of objects and lists; ids and numbers as they are written.

What a row lacks or has of the wrong kind is `Unreadable`, whose message names the field and the remedy.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

EXACT_DIGITS = 15
"""Decimal digits that a float keeps, whatever they are."""

HUGE = 1000
"""Digits of a number that is too long to be written out."""

_PART = re.compile(r"([^.\[\]]+)|\[(-?\d+)\]|\[([A-Za-z]\w*)\]")
_QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_QUOTED_LIST = re.compile(rf"\[\s*{_QUOTED}(?:[,\s]\s*{_QUOTED})*\s*\]", re.DOTALL)


class Unreadable(ValueError):
    """A row holds no problem; the message names the field and the remedy."""


def as_object(row: object) -> Mapping:
    """The row. Raises Unreadable: it has no named fields."""
    if not isinstance(row, Mapping):
        raise Unreadable(f"expected a JSON object with named fields, got {type(row).__name__}")
    return row


class Cells(dict[str, Any]):
    """A row of a table: every cell is a text, also where a number or a list is meant."""


def get(row: object, name: str, *, any_case: bool = False) -> object:
    """A column, "a.b", "a[-1].b" or "a[user].b" inside one; None where it is not there.

    Args:
        any_case: names may differ from the row's in case, where only one of these is like it.
    """
    if isinstance(row, dict) and (name in row or (name.isidentifier() and not any_case)):
        return row.get(name)
    value: object = row
    for key, index, role in [(name, "", "")] if _key(row, name, any_case) else _PART.findall(name):
        value = opened(value)
        if key and isinstance(value, dict):
            value = value.get(_key(value, key, any_case))
        elif index and isinstance(value, list):
            value = value[int(index)] if -len(value) <= int(index) < len(value) else None
        elif role and isinstance(value, list):
            value = next(
                (m for m in reversed(value) if isinstance(m, dict) and role in (m.get("role"), m.get("from"))), None
            )
        else:
            return None
    return value


def _key(row: object, name: str, any_case: bool) -> str | None:
    """How the row spells a name; None: it has no such column, or several that differ in case."""
    if not isinstance(row, dict) or name in row or not any_case:
        return name if isinstance(row, dict) and name in row else None
    same = [key for key in row if isinstance(key, str) and key.casefold() == name.casefold()]
    return same[0] if len(same) == 1 else None


def first_of(row: object, names: Sequence[str]) -> tuple[str, object] | None:
    """The first of the columns in which the row has something, by names as they are, then in any case."""
    for any_case in (False, True):
        for name in names:
            if (value := get(row, name, any_case=any_case)) is not None:
                return name, value
    return None


def opened(value: object) -> object:
    """The list or object that a text writes out, as cells of a table do; whatever else as it is.

    Lists of numbers stay texts, since [2, 3] is an interval as well.
    """
    if not isinstance(value, str) or not (text := value.strip()).startswith(("[", "{")) or text[-1] not in "]}":
        return value
    try:
        if _QUOTED_LIST.fullmatch(text):  # NumPy writes no commas, and Python would join the texts
            return [ast.literal_eval(item) for item in re.findall(_QUOTED, text, re.DOTALL)]
        try:
            made = json.loads(text, parse_float=Decimal)
        except ValueError:
            made = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, ArithmeticError):
        return value
    items = made if isinstance(made, list) else [made]
    return made if items and all(isinstance(item, str | dict | list) for item in items) else value


def is_utf8(text: str) -> bool:
    """Can the text be written? A lone surrogate cannot: a byte that was no UTF-8, or half of a pair in JSON."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def found_in(row: Mapping, names: Sequence[str], what: str, map_name: str) -> tuple[str, object]:
    """The first of the columns that the row has: (name, value).

    Args:
        what: the entry of `fields` that names the column, for the message; "": it has to have this name.

    Raises:
        Unreadable: it has none of them.
    """
    if found := first_of(row, names):
        return found
    for name in names:
        if is_there(row, name):
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
    found = first_of(row, names)
    value = found[1] if found else None
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


def inside(name: str, value: object) -> str:
    """How to name what is inside a value that is itself no text: the remedy of a message."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        user = any(isinstance(item, Mapping) and item.get("role") == "user" for item in value)
        keys = [f"{name}[{'user' if user else -1}].{key}" for key in value[0]]
        best = next((key for key in keys if key.endswith((".content", ".value", ".text"))), keys[0] if keys else "")
        return f"; name one item, such as {best}"
    if isinstance(value, Mapping) and value:
        return "; name what is inside, such as " + " or ".join(f"{name}.{key}" for key in list(value)[:4])
    return ""


def is_there(row: Mapping, name: str) -> bool:
    """Is there such a column, in any case, if only with nothing in it?"""
    parent, _, last = name.rpartition(".")
    inside = get(row, parent, any_case=True) if parent else row
    return get(row, name, any_case=True) is not None or any(
        _key(of, key, True) is not None for of, key in ((row, name), (inside, last))
    )


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

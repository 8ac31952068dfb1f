"""Access to the fields of a row: by name, inside objects and lists; ids and numbers keep their spelling.

A missing field, or one of the wrong kind, raises `Unreadable`, whose message names the field and the remedy.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

EXACT_DIGITS = 15
"""Number of decimal digits that a float always preserves."""

HUGE = 1000
"""Largest number of digits of a number that is written out."""

_PART = re.compile(r"([^.\[\]]+)|\[(-?\d+)\]|\[([A-Za-z]\w*)\]")
_QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_QUOTED_LIST = re.compile(rf"\[\s*{_QUOTED}(?:[,\s]\s*{_QUOTED})*\s*\]", re.DOTALL)


class Unreadable(ValueError):
    """The row holds no problem. The message names the field and the remedy."""


def as_object(row: object) -> Mapping:
    """The row as a mapping. Raises Unreadable if it has no named fields."""
    if not isinstance(row, Mapping):
        raise Unreadable(f"expected a JSON object with named fields, got {type(row).__name__}")
    return row


class Cells(dict[str, Any]):
    """A row of a table. Every cell is text, even if it stands for a number or a list."""


def get(row: object, name: str, *, any_case: bool = False) -> object:
    """The value of a column "a", or of "a.b", "a[-1].b" or "a[user].b" inside it; None: it does not exist.

    Args:
        any_case: the name may differ from the row's in case, if the match is unique.
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
    """The row's spelling of a name; None: it has no such column, or several that differ in case."""
    if not isinstance(row, dict) or name in row or not any_case:
        return name if isinstance(row, dict) and name in row else None
    same = [key for key in row if isinstance(key, str) and key.casefold() == name.casefold()]
    return same[0] if len(same) == 1 else None


def first_of(row: object, names: Sequence[str]) -> tuple[str, object] | None:
    """The first of the columns that is not empty, by exact names first, then in any case."""
    for any_case in (False, True):
        for name in names:
            if (value := get(row, name, any_case=any_case)) is not None:
                return name, value
    return None


def opened(value: object) -> object:
    """Parse the list or object that a text contains, as in cells of a table. Any other value stays as it is.

    Lists of numbers stay text, because [2, 3] may also be an interval.
    """
    if not isinstance(value, str) or not (text := value.strip()).startswith(("[", "{")) or text[-1] not in "]}":
        return value
    try:
        if _QUOTED_LIST.fullmatch(text):  # NumPy writes no commas, and Python would join adjacent strings
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
    """Whether the text can be encoded. A lone surrogate cannot: it is a byte that was not UTF-8, or half of a pair in JSON."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def found_in(row: Mapping, names: Sequence[str], what: str, map_name: str) -> tuple[str, object]:
    """The first of the columns that the row has: (name, value).

    Args:
        what: the entry of `fields` that names the column, for the message; "": the name is fixed.

    Raises:
        Unreadable: the row has none of them.
    """
    if found := first_of(row, names):
        return found
    for name in names:
        if is_there(row, name):
            return name, None
    wanted = " or ".join(map(repr, names))
    has = ", ".join(sorted(map(str, row))) or "no fields"
    remedy = f"; set fields.{what} to the right column" if what else f"; rename the column to {names[0]!r}"
    raise Unreadable(f"field {wanted}: missing (map {map_name}); the row has: {has}{remedy}")


def identifier(row: Mapping, names: Sequence[str], *, own: bool) -> str | None:
    """The row's own id; None: it has none.

    Raises:
        Unreadable: the value is not usable as an id, or the column that the user named is missing.
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
            f"field {names[0]!r}: expected an id (a text or a whole number), got {shown(value)}; set fields.id to "
            "false to number the rows"
        )
    return None


def whole_number(value: object) -> int | None:
    """The integer value of 3 or 3.0; None: it is not a whole number."""
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal):
        whole = value.is_finite() and value.adjusted() < HUGE and value == value.to_integral_value()
        return int(value) if whole else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def shown(value: object) -> str:
    """A value for a message: its kind and its beginning."""
    kinds = {dict: "an object", list: "a list", bytes: "bytes", type(None): "nothing", Decimal: "number"}
    kind = kinds.get(type(value), type(value).__name__)
    if value is None:
        return kind
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return f"{kind} {text[:60]}"


def inside(name: str, value: object) -> str:
    """Describe how to name what is inside a value that is not a text, as the remedy in a message."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        user = any(isinstance(item, Mapping) and item.get("role") == "user" for item in value)
        keys = [f"{name}[{'user' if user else -1}].{key}" for key in value[0]]
        best = next((key for key in keys if key.endswith((".content", ".value", ".text"))), keys[0] if keys else "")
        return f"; name one item, such as {best}"
    if isinstance(value, Mapping) and value:
        return "; name what is inside, such as " + " or ".join(f"{name}.{key}" for key in list(value)[:4])
    return ""


def is_there(row: Mapping, name: str) -> bool:
    """Whether the row has such a column, in any case, even if it is empty."""
    parent, _, last = name.rpartition(".")
    inside = get(row, parent, any_case=True) if parent else row
    return get(row, name, any_case=True) is not None or any(
        _key(of, key, True) is not None for of, key in ((row, name), (inside, last))
    )


def number_text(value: object) -> str | None:
    """A number as text with its original digits; whole numbers without a point; None: it is not a number."""
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
    # Python writes floats from 1e16 on with an exponent, and the last of 17 digits may then differ from the original
    # number.
    rounded = isinstance(exponent, int) and exponent > 0 and len(digits) > EXACT_DIGITS
    return str(int(float(number)) if rounded else int(number))

"""Fields of a row: by name, inside of objects and lists; ids and numbers as they are written.

What a row lacks or has of the wrong kind is `Unreadable`, whose message names the field and the remedy.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from astro.importing.sources import is_utf8

EXACT_DIGITS = 15
"""Decimal digits that a float keeps, whatever they are."""

HUGE = 1000
"""Digits of a number that is too long to be written out."""

_PART = re.compile(r"([^.\[\]]+)|\[(-?\d+)\]")


class Unreadable(ValueError):
    """A row holds no problem; the message names the field and the remedy."""


def as_object(row: object) -> Mapping:
    """The row. Raises Unreadable: it has no named fields."""
    if not isinstance(row, Mapping):
        raise Unreadable(f"expected a JSON object with named fields, got {type(row).__name__}")
    return row


def get(row: object, name: str) -> object:
    """A column, "a.b" or "a[-1].b" inside one; None where it is not there."""
    if isinstance(row, dict) and (name in row or name.isidentifier()):
        return row.get(name)
    value: object = row
    for key, index in _PART.findall(name):
        if key and isinstance(value, dict):
            value = value.get(key)
        elif index and isinstance(value, list):
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


def inside(name: str, value: object) -> str:
    """How to name what is inside a value that is itself no text: the remedy of a message."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        keys = [f"{name}[-1].{key}" for key in value[0]]
        best = next((key for key in keys if key.endswith((".content", ".value", ".text"))), keys[0] if keys else "")
        return f"; name one item, such as {best}"
    if isinstance(value, Mapping) and value:
        return "; name what is inside, such as " + " or ".join(f"{name}.{key}" for key in list(value)[:4])
    return ""


def _is_there(row: Mapping, name: str) -> bool:
    """Is there such a column, if only with nothing in it?"""
    parent, _, last = name.rpartition(".")
    inside = get(row, parent) if parent else row
    return name in row or (isinstance(inside, Mapping) and last in inside)


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

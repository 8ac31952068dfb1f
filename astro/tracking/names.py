"""Names and values in MLflow's format: nested params and metrics are flattened."""

import json
import math
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

LIST_KEYS = (("better", "worse"), ("attempt",), ("backtracks",), ("name",), ("id",))
"""Fields that identify a record in a list of records. The first tuple that all records have is used, joined by `-`."""

NAME_CHARACTERS = 250
"""MLflow's limit on names of params, metrics and tags, in characters."""


def legal_name(name: str) -> str:
    """Convert `name` to what MLflow accepts for params, metrics and tags: letters, digits, `_ - . space : /`, a clean path.

    `pass@1` becomes `pass_at_1`; any other character becomes `_`.

    Raises:
        ValueError: nothing is left of the name, or it is longer than 250 characters.
    """
    legal = re.sub(r"[^A-Za-z0-9_\-. :/]", "_", name.replace("@", "_at_"))
    legal = posixpath.normpath(legal).lstrip("/")
    if legal in ("", ".") or legal.startswith("..") or len(legal) > NAME_CHARACTERS:
        raise ValueError(f"expected a name of 1 to {NAME_CHARACTERS} characters, got {name!r}")
    return legal


def flatten(mapping: Mapping[str, Any], sep: str = ".") -> dict[str, Any]:
    """Flatten a nested mapping to legal names: `{"a": {"b": 1}}` -> `{"a.b": 1}`.

    A list of records that have a field of `LIST_KEYS` is flattened by it (`attempts.3.right`). Other lists of records
    are left out, because a curve is not a parameter. A list of plain values becomes JSON text. None stays.

    Raises:
        ValueError: two entries get the same name (MLflow would silently keep one).
    """
    flat: dict[str, Any] = {}
    for path, value in _leaves(mapping, ()):
        name = legal_name(sep.join(path))
        if name in flat:
            raise ValueError(f"two entries are both named {name!r} when flattened")
        flat[name] = value
    return flat


def numbers(mapping: Mapping[str, Any], sep: str = "/", prefix: str = "") -> dict[str, float]:
    """The numbers of a nested mapping, flattened; booleans count as 0 and 1, everything else is left out.

    `numbers({"loss": 1, "note": None}, prefix="sft")` -> `{"sft/loss": 1.0}`
    """
    flat = flatten({prefix: mapping} if prefix else mapping, sep)
    return {k: float(v) for k, v in flat.items() if isinstance(v, int | float) and math.isfinite(v)}


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, value) of everything below `value` that is not itself a mapping or a list of records."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _leaves(below, (*path, str(key)))
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        fits = (k for k in LIST_KEYS if all(isinstance(r, Mapping) and set(k) <= set(r) for r in value))
        keys: tuple[str, ...] = next(fits, ())
        for record in value if keys else ():
            below = {k: v for k, v in record.items() if k not in keys}
            yield from _leaves(below, (*path, "-".join(str(record[k]) for k in keys)))
    elif isinstance(value, list | tuple):
        yield path, json.dumps(value)
    else:
        yield path, value

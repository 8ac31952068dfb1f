"""Import of Countdown problems from files."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from astro.importing.imported import Imported, each_row, in_order, is_eval
from astro.importing.row_fields import Cells, Unreadable, as_object, found_in, identifier, shown, whole_number
from astro.process import UserError
from astro.tasks.countdown.sets import LARGEST, make_problem, problem_key
from schemas.problems import FieldMap, ProblemsParams, Reason, SourceSpec
from schemas.records import Problem

NUMBERS, TARGETS = ("numbers", "nums"), ("target",)
"""Accepted names of the columns. TinyZero's Countdown set says `nums`."""

FEWEST, MOST = 2, 6
"""Smallest and largest count of numbers in a problem."""


@dataclass(frozen=True, slots=True)
class _Row:
    id: str | None
    numbers: list[int]
    target: int


def import_countdown(params: ProblemsParams, found: Imported | None = None) -> Imported:
    """Read all sets of Countdown problems, from rows with `numbers` and `target`.

    A train or rl problem is dropped if it is in an eval set, or a duplicate, in whatever order its numbers are.

    Args:
        found: the result that they are added to.

    Raises:
        UserError: a source is missing or empty, or yields no problem.
    """
    found = found or Imported()
    found.strict |= {name for name, spec in params.files.items() if spec.strict}
    evals: dict[tuple[int, ...], str] = {}  # problem -> its place
    learnt: dict[tuple[int, ...], str] = {}
    ids: set[str] = set()
    for name, spec in in_order(params, found):
        with found.noting(name):
            _check(name, spec)
            kept: list[Problem] = []
            own: dict[tuple[int, ...], str] = {} if is_eval(name) else learnt
            for where, number, row in each_row(name, spec, params.folder, partial(_read, spec.fields), found):
                given = row.id if row.id is not None else f"{name}-{number:06d}"
                key = problem_key(row.target, row.numbers)
                if key in own or (key in evals and not is_eval(name)):
                    reason: Reason = "repeated" if key in own else "exact"
                    found.leave_out(name, reason, where=where, id=given, hits=own.get(key) or evals[key])
                    continue
                problem = make_problem(
                    given if given not in ids else f"{name}-{given}",
                    row.target,
                    row.numbers,
                    value_max=params.value_max,
                )
                if problem.id in ids:
                    detail = f"field 'id': {row.id!r} occurs twice; set fields.id to false to number the rows"
                    found.leave_out(name, "unreadable", where=where, id=given, detail=detail)
                    continue
                if not problem.chance:
                    way = f"{row.target} cannot be reached from {row.numbers} with results up to {params.value_max}"
                    detail = f"{way} (problems.value_max)"
                    found.leave_out(name, "unreadable", where=where, id=given, detail=detail)
                    continue
                ids.add(problem.id)
                own[key] = f"{name}:{problem.id}"
                if is_eval(name):
                    evals.setdefault(key, own[key])
                kept.append(problem)
            found.close(name, kept, spec)
    return found


def _check(name: str, spec: SourceSpec) -> None:
    """Raise UserError if the entry uses an option that only mathematics has."""
    if spec.preset not in ("plain", "countdown3to4") or spec.fields != FieldMap(id=spec.fields.id):
        raise UserError(
            f"problems.files.{name}: preset and fields (except fields.id) are for run.task math; Countdown reads "
            f"the columns {' or '.join(NUMBERS)}, and {TARGETS[0]}"
        )


def _read(fields: FieldMap, content: object) -> _Row:
    """Read the problem in a row. Other fields are ignored. Raises Unreadable."""
    row = as_object(content)
    if isinstance(row, Cells):
        row = {
            name: _number_in(cell) if name.casefold() in (*NUMBERS, *TARGETS) else cell for name, cell in row.items()
        }
    names = () if fields.id is False else (fields.id or "id",)
    column, numbers = _column(row, NUMBERS)
    if not isinstance(numbers, list) or not FEWEST <= len(numbers) <= MOST:
        raise Unreadable(f"field {column!r}: expected a list of {FEWEST} to {MOST} whole numbers, got {shown(numbers)}")
    target, value = _column(row, TARGETS)
    return _Row(
        id=identifier(row, names, own=bool(fields.id)),
        numbers=[_number(f"{column}.{i}", item) for i, item in enumerate(numbers)],
        target=_number(target, value),
    )


def _column(row: Mapping, names: tuple[str, ...]) -> tuple[str, object]:
    return found_in(row, names, "", "countdown")


def _number_in(cell: str | None) -> object:
    """Parse the number or list of numbers in a cell of a table. Any other text stays as it is."""
    try:
        return json.loads(re.sub(r"(?<=\d)\s+(?=\d)", ", ", cell or ""))  # NumPy writes [20 31 6]
    except ValueError:
        return cell


def _number(name: str, value: object) -> int:
    number = whole_number(value)
    if number is None or not 1 <= number <= LARGEST:
        raise Unreadable(f"field {name!r}: expected a whole number from 1 to {LARGEST}, got {shown(value)}")
    return number

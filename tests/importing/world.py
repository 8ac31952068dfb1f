"""Files of problems, and params that name them."""

import json
from pathlib import Path

from astro.importing import import_sets, problem_sets
from astro.importing.imported import Imported
from astro.params import load_params
from astro.tasks import get_task
from schemas.problems import ProblemsParams, SourceSpec

PROBLEMS = load_params().problems.model_dump()


def write(path: Path, rows) -> str:
    """A JSONL file of rows, or of text or bytes as they are; its name."""
    if not isinstance(rows, str | bytes):
        rows = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(rows if isinstance(rows, bytes) else rows.encode("utf-8", "surrogateescape"))
    return path.name


def spec(**values) -> SourceSpec:
    return SourceSpec.model_validate(values)


def params_of(folder: Path, sets: dict, *, ngram: int = 13, **values) -> ProblemsParams:
    """Each set a list of rows, a text, or a whole entry of problems.files."""
    given = {
        name: rows if isinstance(rows, dict) else {"path": write(folder / f"{name}.jsonl", rows)}
        for name, rows in sets.items()
    }
    fixed = {"source": "files", "folder": str(folder), "files": given, "overlap": {"ngram": ngram}}
    return ProblemsParams.model_validate(PROBLEMS | fixed | values)


def read_source(name: str, spec: SourceSpec, folder: str, found: Imported | None = None) -> list:
    """A source of mathematics."""
    return problem_sets.read_source(name, spec, folder, get_task("math"), found)


def import_math(params: ProblemsParams, found: Imported | None = None) -> Imported:
    """Sets of mathematics."""
    return import_sets(params, get_task("math"), found)

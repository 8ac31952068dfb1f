"""The rows of a file or a dataset, each with where it stands."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from astro.runtime import UserError
from schemas.problems import SourceSpec

READERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
"""Suffix of a local dataset file -> the reader of `datasets`."""


def place_of(given: str, folder: str) -> Path | None:
    """The file or folder that `given` names: in `folder`, else from the repository's root; None: there is none."""
    return next((path for path in (Path(folder) / given, Path(given)) if path.exists()), None)


def watched(path: Path, folder: str) -> bool:
    """Does DVC see an edit of `path`, because it lies in (or is) `folder`?"""
    inside = Path(folder).resolve()
    return path.resolve() == inside or path.resolve().is_relative_to(inside)


def notes_on(name: str, spec: SourceSpec, folder: str) -> list[str]:
    """What the user should know of a source: DVC does not see it change."""
    given = spec.path or spec.dataset
    path = place_of(given, folder)
    if path is None:
        pinned = spec.revision or not spec.dataset
        return (
            [] if pinned else [f"problems.files.{name}: dataset {given} has no revision: the hub may change it unseen"]
        )
    if watched(path, folder):
        return []
    return [
        f"problems.files.{name}: {given} does not lie in problems.folder ({folder}), so DVC does not see an edit of it: "
        f"set problems.folder, or run `dvc repro -f problems` after an edit"
    ]


def read_rows(name: str, spec: SourceSpec, folder: str) -> Iterator[tuple[str, int, object]]:
    """(where, 1-based line or row, content) of the rows that `spec` takes of its source.

    Raises:
        UserError: it is not there, is empty, cannot be read, or a line is no JSON.
    """
    rows = _lines(spec.path, folder) if spec.path else _dataset(name, spec, folder)
    for position, found in enumerate(rows):
        if spec.limit and position >= spec.skip + spec.limit:
            return
        if position >= spec.skip:
            yield found


def _lines(given: str, folder: str) -> Iterator[tuple[str, int, object]]:
    path = place_of(given, folder)
    if path is None or not path.is_file():
        raise UserError(f"{given}: no such file" + (" (it is a folder: name it as dataset)" if path else ""))
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                yield where, number, json.loads(line.decode("utf-8-sig"), parse_constant=_no_constant)
            except (ValueError, RecursionError) as error:
                cut = "" if line.endswith(b"\n") else " (the line is cut short: no line end)"
                raise UserError(f"{where}: no valid JSON: {error}{cut}") from None


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _dataset(name: str, spec: SourceSpec, folder: str) -> Iterator[tuple[str, int, object]]:
    """Rows of a dataset of the hub, or of a local folder or file. Scripts of datasets are never run (`datasets` has none)."""
    import datasets

    local = place_of(spec.dataset, folder)
    where = f"problems.files.{name}: dataset {spec.dataset}"
    arguments: dict[str, object] = {"path": str(local or spec.dataset)}
    if local is not None and local.is_file():
        if local.suffix not in READERS:
            raise UserError(f"{where}: expected a folder, or a file that ends in {', '.join(READERS)}")
        arguments = {"path": READERS[local.suffix], "data_files": str(local)}
    datasets.disable_progress_bars()
    try:
        found = datasets.load_dataset(
            **arguments,
            name=spec.config or None,
            split=spec.split or None,
            revision=(spec.revision or None) if local is None else None,
        )
    except Exception as error:  # whatever the hub's client, the network or a reader raises: the user gave this name
        lines = str(error).strip().splitlines() or [type(error).__name__]
        hint = "" if local else "; is the name right, and is there a network?"
        raise UserError(f"{where}: cannot be loaded: {lines[0][:300]}{hint}") from None
    if isinstance(found, dict):
        if len(found) != 1:
            raise UserError(f"{where}: has the splits {', '.join(found)}; name one in split")
        found = next(iter(found.values()))
    split = f", split {spec.split}" if spec.split else ""
    for number, row in enumerate(found, 1):
        yield f"dataset {spec.dataset}{split}, row {number}", number, row

"""Files that are written completely or not at all, records read with the place of a fault in the error, and hashes of content."""

import contextlib
import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from astro.process import UserError

R = TypeVar("R", bound=BaseModel)

# --- writing -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Add the file's name to an OSError, because a write to a full disk raises one without a name."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`. It replaces the target if the block succeeds.

    Works for files and folders. A failed block leaves the target unchanged and removes the temporary path.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    discard(temporary)  # left by a killed process with the same id; its files must not get into the target
    try:
        with named(target):
            yield temporary
        if temporary.is_dir() and target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    finally:
        discard(temporary)


def discard(path: Path) -> None:
    """Remove a file or folder. A missing one is ignored."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write a file completely or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: object) -> None:
    """Write sorted, indented JSON, so that the same value gives the same bytes. Pydantic records are accepted."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    write_text(target, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_jsonl(target: Path, records: Iterable[BaseModel]) -> int:
    """Write one record per line, completely or not at all. Returns the number of records."""
    count = 0
    with atomic_path(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(record.model_dump_json() + "\n")
            count += 1
    return count


def write_csv(target: Path, record: type[R], records: Iterable[R]) -> None:
    """Write a table with one column per field, completely or not at all. Without records it consists of its header."""
    with atomic_path(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(record.model_fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(one.model_dump() for one in records)


# --- reading -----------------------------------------------------------------------------------------------------------


def explain(error: ValidationError) -> str:
    """The first faults of a record: field, what was expected, what was found."""
    faults = []
    for fault in error.errors()[:5]:
        field = ".".join(str(part) for part in fault["loc"]) or "record"
        shown = repr(fault.get("input"))
        faults.append(
            f"field {field!r}: {fault['msg']}" + (f" (got {shown[:80]})" if fault["type"] != "missing" else "")
        )
    return "; ".join(faults)


def read_jsonl(path: Path, record: type[R]) -> Iterator[R]:
    """The records of a file; see `enumerate_jsonl`."""
    for _, value in enumerate_jsonl(path, record):
        yield value


def enumerate_jsonl(path: Path, record: type[R]) -> Iterator[tuple[int, R]]:
    """The records of a file with their line numbers, from 1. Blank lines are skipped.

    Raises:
        UserError: the file is missing, or a line is broken; names file, line and field.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = record.model_validate_json(line)
            except ValidationError as error:
                cut = "" if line.endswith(b"\n") else " (the line has no line end, so the file may be cut short)"
                raise UserError(f"{path}, line {number}: {explain(error)}{cut}") from None
            yield number, value


def read_shards(folder: Path, record: type[R]) -> Iterator[R]:
    """The records of all *.jsonl files of a folder, by file name.

    Raises:
        UserError: there is no shard, or a line is broken.
    """
    shards = sorted(folder.glob("*.jsonl"))
    if not shards:
        raise UserError(f"{folder}: contains no .jsonl file")
    for shard in shards:
        yield from read_jsonl(shard, record)


def read_json(path: Path, record: type[R]) -> R:
    """Read one record from a JSON file.

    Raises:
        UserError: the file is missing or invalid; names file and field.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error)}") from None


# --- hashes ------------------------------------------------------------------------------------------------------------


def digest(*values: object) -> str:
    """Short hash of JSON-able values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


def files_of(path: Path) -> list[Path]:
    """The files that DVC sees in a file or folder. Compiled Python files and DVC's .gitignore files are excluded."""
    if not path.is_dir():
        return [path]
    found = (p for p in path.rglob("*") if p.is_file())
    return [p for p in found if p.suffix != ".pyc" and p.name != ".gitignore" and "__pycache__" not in p.parts]


def size_of(path: Path) -> int:
    """Size in bytes of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in files_of(path))


def digest_path(path: Path) -> str:
    """DVC's md5 of a file, or of a folder (with ".dir" at its end)."""
    if not path.is_dir():
        return _md5(path)
    listed = [{"md5": _md5(file), "relpath": file.relative_to(path).as_posix()} for file in files_of(path)]
    text = json.dumps(sorted(listed, key=lambda entry: entry["relpath"]), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def _md5(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

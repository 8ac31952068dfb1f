"""Basic services for long stages: work folders that survive a kill, atomic writes, JSON lines with line numbers in errors.

It imports nothing of the project except the contracts.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

R = TypeVar("R", bound=BaseModel)

PR_SET_PDEATHSIG = 1
"""prctl option: the signal that this process receives when its parent dies (Linux)."""


class UserError(ValueError):
    """An error in the user's input. It is printed without a stack trace and ends with exit code 2."""


class MachineFault(RuntimeError):
    """A failure of the machine, not of the user's input. It is printed without a stack trace and ends with exit code 2."""


HOME = "ASTRO_HOME"
"""Environment variable: the original checkout of a run that works in a clone."""


def home_root(here: Path | None = None) -> Path:
    """The main checkout, even from a clone or one of DVC's copies. Work folders and the MLflow store are there.

    Args:
        here: folder of a process that DVC did not start; None: the current folder.
    """
    return Path(os.environ.get(HOME) or os.environ.get("DVC_ROOT") or here or Path.cwd()).resolve()


def die_with_parent() -> None:
    """Let the kernel end this process when its parent (DVC) ends, so that a killed `dvc repro` leaves no orphan."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends for any reason. If the parent is gone already, exit now.

    Args:
        parent: id of the process that started this one, because prctl does not notice a parent that died before the call.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(f"process {parent}, which started this one, has ended")


def program(name: str) -> str:
    """Name of the command `astro/<name>` as it was called, for usage lines: "astro plan" or "python -m astro.plan"."""
    return sys.argv[0] if sys.argv[0] == f"astro {name}" else f"python -m astro.{name}"


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's main. User errors and machine faults become one line and exit code 2, Ctrl-C one line and 130.
    Other errors keep their stack trace and exit with 1.
    """
    try:
        main()
    except KeyboardInterrupt:
        print("\ninterrupted; finished work is kept, and `dvc repro` resumes from it", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except (UserError, ValidationError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror or error}{where}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if fault := machine_fault(error):
            print(f"error: {fault}", file=sys.stderr)
            sys.exit(2)
        full = any(word in str(error) for word in ("No space left", "os error 28"))  # it is not always an OSError
        if not (isinstance(error, ValueError) or full):
            raise
        print(f"error: {error}", file=sys.stderr)
        if os.environ.get("ASTRO_TRACE"):
            raise
        sys.exit(2)


def machine_fault(error: BaseException | None) -> MachineFault | None:
    """The machine fault behind an error; None: it has another cause. `cause` replaces a chain that was lost between processes."""
    while error is not None and not isinstance(error, MachineFault):
        error = error.__cause__ or getattr(error, "cause", None)
    return error


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


# --- work folders ------------------------------------------------------------------------------------------------------


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


@contextlib.contextmanager
def work_folder(stage: str, key: str) -> Iterator[Path]:
    """The folder `work/<stage>/<key>` in the main checkout, locked against a second process with the same work.

    `key` is a hash of everything that determines the result (params, inputs, code), so this run may continue exactly what a
    killed run
    left there. Folders with other keys stay, because an experiment may be using them.

    Raises:
        UserError: another process is doing the same work.
    """
    folder = home_root() / "work" / stage / key
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another process is doing the same work; wait for it, or stop it") from None
        yield folder


def clear_folder(folder: Path) -> None:
    """Empty a work folder after its result was published. Its lock stays."""
    for item in folder.iterdir():
        if item.name == "lock":
            continue
        shutil.rmtree(item) if item.is_dir() else item.unlink()


class Progress:
    """Prints `label done/total, rate, time left` at most once every `every` seconds, and for the last item."""

    def __init__(self, label: str, total: int, *, unit: str = "items", every: float = 10.0, start: int = 0):
        self.label, self.total, self.unit, self.every = label, total, unit, every
        self.start, self.began, self.last = start, time.monotonic(), time.monotonic()

    def update(self, done: int, note: str = "") -> None:
        """Report that `done` of `total` items are finished."""
        now = time.monotonic()
        if now - self.last < self.every and done < self.total:
            return
        self.last = now
        rate = (done - self.start) / max(now - self.began, 1e-9)
        pace = ""
        if rate > 0:
            left = (self.total - done) / rate
            clock = f"{left:.0f} s" if left < 120 else f"{left / 60:.1f} min"
            pace = f", {rate:.1f} {self.unit}/s, {clock} left"
        tail = f", {note}" if note else ""
        print(f"[{self.label}] {done}/{self.total}{pace}{tail}", flush=True)

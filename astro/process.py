"""How a command of the project runs: its errors and exit codes, its parent, its checkout, its work folder, its progress lines."""

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

AFFECTS_RESULTS = False  # it only says how a process starts, ends, reports and where it works

PR_SET_PDEATHSIG = 1
"""prctl option: the signal that this process receives when its parent dies (Linux)."""

HOME = "ASTRO_HOME"
"""Environment variable: the original checkout of a run that works in a clone."""


# --- errors and exit codes ---------------------------------------------------------------------------------------------


class UserError(ValueError):
    """An error in the user's input. It is printed without a stack trace and ends with exit code 2."""


class MachineFault(RuntimeError):
    """A failure of the machine, not of the user's input. It is printed without a stack trace and ends with exit code 2."""


def machine_fault(error: BaseException | None) -> MachineFault | None:
    """The machine fault behind an error; None: it has another cause. `cause` replaces a chain that was lost between processes."""
    while error is not None and not isinstance(error, MachineFault):
        error = error.__cause__ or getattr(error, "cause", None)
    return error


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


def program(name: str) -> str:
    """Name of the command `astro/<name>` as it was called, for usage lines: "astro plan" or "python -m astro.plan"."""
    return sys.argv[0] if sys.argv[0] == f"astro {name}" else f"python -m astro.{name}"


def plural(count: int, noun: str, more: str = "") -> str:
    """A count with its noun, "1 problem" or "2 problems". more: the words for several, where an s alone does not make them."""
    return f"{count} {noun if count == 1 else more or noun + 's'}"


# --- parent process ----------------------------------------------------------------------------------------------------


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


# --- work folders ------------------------------------------------------------------------------------------------------


def home_root(here: Path | None = None) -> Path:
    """The main checkout, even from a clone or one of DVC's copies. Work folders and the MLflow store are there.

    Args:
        here: folder of a process that DVC did not start; None: the current folder.
    """
    return Path(os.environ.get(HOME) or os.environ.get("DVC_ROOT") or here or Path.cwd()).resolve()


@contextlib.contextmanager
def work_folder(stage: str, key: str) -> Iterator[Path]:
    """The folder `work/<stage>/<key>` in the main checkout, locked against a second process with the same work.

    `key` is a hash of everything that determines the result (params, inputs, code), so this run may continue exactly
    what a killed run left there. Folders with other keys stay, because an experiment may be using them.

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


# --- progress ----------------------------------------------------------------------------------------------------------


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

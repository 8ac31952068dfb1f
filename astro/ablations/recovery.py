"""What a killed `dvc exp run --temp` leaves behind, and how it is cleared.

DVC runs the stages in a copy, but for a moment before that (under a second) it detaches HEAD and writes the changed
params.yaml into the checkout, and takes both back. A kill just then leaves them. So each run is noted before it starts;
who finds a note undoes exactly what DVC does, and nothing else. A kill later leaves the copy, and perhaps a stash entry.
"""

import contextlib
import shutil
from pathlib import Path

import psutil
from pydantic import Field
from ruamel.yaml import YAML, YAMLError

from astro.ablations.experiments import STASH, dirty, forget, git, head, params_at
from astro.params import PARAMS_FILE, plain
from astro.runtime import UserError, discard, read_json, write_json
from schemas.base import Strict

NOTE = "running.json"
COPIES = Path(".dvc/tmp/exps/standalone")
"""Where DVC puts the copies of --temp."""

TOUCHED = {"params.yaml", ".dvc/tmp/repro.dat"}
"""What DVC writes into the checkout."""


class Note(Strict):
    """The run that is under way; the checkout was clean when it began."""

    commit: str
    branch: str = Field(description='full name of the branch; "": HEAD was detached')
    params: dict = Field(description="that the run shall have")
    copies: list[str] = Field(description="names of the copies that were there before")


def begin(folder: Path, params: dict) -> None:
    """Note that a run is about to start. folder: where the note stands."""
    note = Note(commit=head(), branch=_branch(), params=params, copies=_copies())
    write_json(folder / NOTE, note)


def end(folder: Path) -> None:
    """The run has ended by itself."""
    discard(folder / NOTE)


def recover(folder: Path) -> list[str]:
    """Undo what a killed run left. Returns what was done, in words.

    Raises:
        UserError: the checkout holds changes that are not the run's.
    """
    if not (folder / NOTE).is_file():
        return []
    try:
        note = read_json(folder / NOTE, Note)
    except UserError:  # of another version of this program
        end(folder)
        return []
    said = _restore(note)
    forget(STASH)
    for name in sorted(set(_copies()) - set(note.copies)):
        if not _in_use(COPIES / name):
            shutil.rmtree(COPIES / name, ignore_errors=True)
            said.append(f"removed the copy {COPIES / name}")
    end(folder)
    return said


def check_clean() -> None:
    """Experiments carry the changes of the working tree: what they show would not be the commit's.

    Raises:
        UserError: tracked files differ from the commit; names them.
    """
    if files := dirty():
        shown = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
        raise UserError(f"uncommitted changes in {shown}: commit or undo them, for runs are compared by their commit")


def _restore(note: Note) -> list[str]:
    """Branch and files as they were, where DVC changed them."""
    said: list[str] = []
    if head() != note.commit:
        return said  # the user went on: nothing here is the run's any more
    if not _branch() and note.branch:
        git("symbolic-ref", "HEAD", note.branch)
        said.append(f"back on {note.branch}")
    if (files := set(dirty())) and files <= TOUCHED:
        if _params_here() not in (note.params, params_at("HEAD")):
            return said  # the user's own edit
        git("reset", "-q", "--hard")
        said.append(f"took back {', '.join(sorted(files))}")
    return said


def _params_here() -> dict | None:
    try:
        return plain(YAML(typ="rt").load(PARAMS_FILE.read_text(encoding="utf-8")))
    except (OSError, YAMLError):
        return None


def _branch() -> str:
    """Full name of the branch; "" where HEAD is detached."""
    with contextlib.suppress(UserError):
        return git("symbolic-ref", "-q", "HEAD").strip()
    return ""


def _copies() -> list[str]:
    return sorted(p.name for p in COPIES.glob("tmp*") if p.is_dir())


def _in_use(folder: Path) -> bool:
    """Does a process work there?"""
    inside = folder.resolve()
    for process in psutil.process_iter(["cwd"]):
        cwd = process.info["cwd"]
        if cwd and Path(cwd).is_relative_to(inside):
            return True
    return False

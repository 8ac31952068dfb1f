"""Read dvc.yaml for the stages: what a stage depends on, and DVC's hashes of it.

The key of a work folder and DVC's decision to run a stage thus use the same list, which exists only once.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from astro.files import digest_path, size_of
from astro.params import plain, read_yaml
from astro.process import UserError

AFFECTS_RESULTS = False  # it reads a file that DVC reads too

PIPELINE, LOCK = Path("dvc.yaml"), Path("dvc.lock")
_PLACE = re.compile(r"\$\{([^}]+)\}")


@dataclass(frozen=True)
class Entry:
    """One stage of dvc.yaml, with all templates expanded."""

    name: str  # DVC's name: "mcts", "sft@direct"
    params: tuple[str, ...]  # dotted keys of params.yaml
    deps: tuple[str, ...]
    outs: tuple[str, ...]  # including metrics and plots


def read_pipeline(values: Mapping[str, Any]) -> dict[str, Entry]:
    """Name -> stage, in the order of dvc.yaml. A `foreach` stage has one entry per item, such as "sft@direct".

    Args:
        values: params.yaml as plain values.

    Raises:
        UserError: a file is missing or broken.
    """
    content = plain(read_yaml(PIPELINE))
    context = dict(values)
    for name in content.get("vars", []):
        if name != "params.yaml":
            context |= plain(read_yaml(Path(name)))
    found: dict[str, Entry] = {}
    for name, stage in content["stages"].items():
        if "foreach" not in stage:
            found[name] = _entry(name, stage, context)
            continue
        place = _PLACE.fullmatch(stage["foreach"])
        assert place is not None, f"{PIPELINE}: {name}: foreach must name a section of params.yaml or of a vars file"
        items = context[place[1]]
        for key, item in items.items():
            found[f"{name}@{key}"] = _entry(f"{name}@{key}", stage["do"], {**context, "key": key, "item": item})
    return found


def _entry(name: str, stage: Mapping[str, Any], context: Mapping[str, Any]) -> Entry:
    listed = {
        kind: tuple(_texts(stage.get(kind, []), context)) for kind in ("params", "deps", "outs", "metrics", "plots")
    }
    return Entry(name, listed["params"], listed["deps"], (*listed["outs"], *listed["metrics"], *listed["plots"]))


def _texts(entries: list, context: Mapping[str, Any]) -> Iterator[str]:
    for entry in entries:
        text = next(iter(entry)) if isinstance(entry, dict) else entry
        yield _PLACE.sub(lambda place: str(value_at(context, place[1])), text)


def value_at(values: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None: there is none."""
    here: Any = values
    for part in key.split("."):
        here = here.get(part) if isinstance(here, Mapping) else None
    return here


# --- hashes ------------------------------------------------------------------------------------------------------------


@cache
def _locked(path: Path, changed: int) -> dict[str, dict]:
    """Path of an out -> its entry in dvc.lock. changed: modification time of the file, for the cache."""
    stages = plain(read_yaml(path)).get("stages", {})
    return {out["path"]: out for stage in stages.values() for out in stage.get("outs", []) if "md5" in out}


def hash_of(path: str) -> str:
    """DVC's md5 of a file or folder.

    If DVC runs the stage and has just hashed the outs of an earlier one, the hash comes from dvc.lock, so that a model
    of 140 GB is not read again. Otherwise it is computed in the same way.

    Raises:
        UserError: the path does not exist.
    """
    place = Path(path)
    if not place.exists():
        raise UserError(f"{path}: no such file; an earlier stage makes it: run `dvc repro`")
    if os.environ.get("DVC_STAGE") and LOCK.is_file():
        out = _locked(LOCK.resolve(), LOCK.stat().st_mtime_ns).get(path)
        if out and out.get("size") == size_of(place):
            return out["md5"]
    return digest_path(place)


# --- leftovers of an interrupted experiment
# ----------------------------------------------------------------------------

EXEC_MERGE = "refs/exps/exec/EXEC_MERGE"
"""Ref in which `dvc exp run` stores the edits of the workspace before it checks out the commit and applies them again."""


def lost_edits() -> list[str]:
    """Files whose edits exist only in EXEC_MERGE. Ctrl-C in the first seconds of `dvc exp run` can remove them from the
    workspace (treeverse/dvc#10655). [] inside a running experiment.
    """
    if os.environ.get("DVC_EXP_NAME") or _git("rev-parse", "--verify", "--quiet", EXEC_MERGE) is None:
        return []
    edited = (_git("diff", "--name-only", "--relative", "-z", f"{EXEC_MERGE}^1", EXEC_MERGE) or "").split("\0")
    return [name for name in edited if name and not name.startswith(".dvc/tmp/") and _is_lost(name)]


def warn_of_lost_edits() -> None:
    """Print one line that names the lost edits and the command that restores them."""
    if lost := lost_edits():
        print(
            f"warning: a `dvc exp run` was interrupted, and its edits of {', '.join(lost)} are not in the "
            f"workspace. Run `git restore --source={EXEC_MERGE} {shlex.join(lost)}` to get them back; the next `dvc "
            "exp run` drops them",
            file=sys.stderr,
            flush=True,
        )


def _is_lost(name: str) -> bool:
    """Whether the file is in its state before the edits, or is empty."""
    cut = Path(name).is_file() and not Path(name).stat().st_size and bool(_git("show", f"{EXEC_MERGE}:./{name}"))
    return cut or _git("diff", "--quiet", f"{EXEC_MERGE}^1", "--", name) is not None


def _git(*arguments: str) -> str | None:
    """Run git and return its output; None: it failed or is not installed."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return None if done.returncode else done.stdout

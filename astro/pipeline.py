"""dvc.yaml as the stages read it: what a stage depends on, and the hashes that DVC has for it.

So the key of a work folder and DVC's decision to run a stage hang on the same things, and nobody lists them twice.
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

from astro.params import plain, read_yaml
from astro.runtime import UserError, digest_path, size_of

AFFECTS_RESULTS = False  # it reads a file that DVC reads too

PIPELINE, LOCK = Path("dvc.yaml"), Path("dvc.lock")
_PLACE = re.compile(r"\$\{([^}]+)\}")


@dataclass(frozen=True)
class Entry:
    """One stage of dvc.yaml, with everything filled in."""

    name: str  # DVC's: "mcts", "sft@direct"
    params: tuple[str, ...]  # dotted keys of params.yaml
    deps: tuple[str, ...]
    outs: tuple[str, ...]  # metrics and plots too


def read_pipeline(values: Mapping[str, Any]) -> dict[str, Entry]:
    """Name -> stage, in the order of dvc.yaml; of `foreach` one per item, "sft@direct".

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
        assert place is not None, f"{PIPELINE}: {name}: foreach names no section of params.yaml or of a file of vars"
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
    """Path of an out -> its entry in dvc.lock. changed: when the file was, for the cache."""
    stages = plain(read_yaml(path)).get("stages", {})
    return {out["path"]: out for stage in stages.values() for out in stage.get("outs", []) if "md5" in out}


def hash_of(path: str) -> str:
    """DVC's md5 of a file or folder.

    Where DVC runs the stage and has just hashed an out of an earlier one, its figure is taken from dvc.lock: a model of 140 GB is
    not read once more. Otherwise it is computed, in the same way.

    Raises:
        UserError: it is missing.
    """
    place = Path(path)
    if not place.exists():
        raise UserError(f"{path}: no such file; the stages before this one make it: dvc repro")
    if os.environ.get("DVC_STAGE") and LOCK.is_file():
        out = _locked(LOCK.resolve(), LOCK.stat().st_mtime_ns).get(path)
        if out and out.get("size") == size_of(place):
            return out["md5"]
    return digest_path(place)


# --- what a broken-off experiment left ---------------------------------------------------------------------------------

EXEC_MERGE = "refs/exps/exec/EXEC_MERGE"
"""Where `dvc exp run` puts the edits of the workspace before it checks out the commit and lays them over it again."""


def lost_edits() -> list[str]:
    """Files whose edits only EXEC_MERGE holds: Ctrl-C in the first seconds of `dvc exp run` can leave the workspace without them
    (treeverse/dvc#10655). [] inside a running experiment."""
    if os.environ.get("DVC_EXP_NAME") or _git("rev-parse", "--verify", "--quiet", EXEC_MERGE) is None:
        return []
    edited = (_git("diff", "--name-only", "--relative", "-z", f"{EXEC_MERGE}^1", EXEC_MERGE) or "").split("\0")
    return [name for name in edited if name and not name.startswith(".dvc/tmp/") and _is_lost(name)]


def warn_of_lost_edits() -> None:
    """Say in a line which edits are lost, and the command that brings them back."""
    if lost := lost_edits():
        print(
            f"warning: a `dvc exp run` was broken off, and its edits of {', '.join(lost)} are not in the workspace; "
            f"`git restore --source={EXEC_MERGE} {shlex.join(lost)}` brings them back (before the next `dvc exp run`, which "
            "drops them)",
            file=sys.stderr,
            flush=True,
        )


def _is_lost(name: str) -> bool:
    """The file is as it was before the edits, or was cut to nothing."""
    cut = Path(name).is_file() and not Path(name).stat().st_size and bool(_git("show", f"{EXEC_MERGE}:./{name}"))
    return cut or _git("diff", "--quiet", f"{EXEC_MERGE}^1", "--", name) is not None


def _git(*arguments: str) -> str | None:
    """What git says; None: it failed, or is not there."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return None if done.returncode else done.stdout

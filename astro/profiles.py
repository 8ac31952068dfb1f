"""Profiles: overlays over params.yaml, checked before they are written.

    python -m astro.profiles list
    python -m astro.profiles apply smoke      # or: make profile P=smoke
    python -m astro.profiles check            # params.yaml as it stands, and whether a merge is finished; make run asks it first

A profile names only what it changes. It is laid over the params.yaml of the last commit, not over the one in the
workspace, so that two profiles do not stack; without a commit, over the file as it is.
"""

import argparse
import difflib
import io
import re
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from astro.dvc_files import LOCK, PIPELINE, warn_of_lost_edits
from astro.files import write_text
from astro.params import PARAMS_FILE, load_params, nearest, read_yaml, require_merged, validate
from astro.process import UserError, run_stage
from schemas.params import Params

PROFILES = Path("profiles")
WHOLE = {("problems", "eval"), ("problems", "files"), ("problems", "levels"), ("base", "corpus", "levels")}
"""Mappings with free keys. An overlay replaces them, because merging would keep sets that it does not mention."""


def overlay(target: CommentedMap, change: CommentedMap, where: Path, at: tuple[str, ...] = ()) -> None:
    """Apply `change` to `target` in place. Comments of `target` stay.

    Raises:
        UserError: a key does not exist in the target.
    """
    for key, value in change.items():
        here = (*at, str(key))
        if key not in target:
            line = change.lc.key(key)[0] + 1
            raise UserError(f"{where}, line {line}: {'.'.join(here)}: unknown parameter{nearest(Params, here)}")
        if isinstance(value, CommentedMap) and isinstance(target[key], CommentedMap) and here not in WHOLE:
            overlay(target[key], value, where, here)
        else:
            target[key] = value


def to_text(content: CommentedMap) -> str:
    """Write YAML text with its comments."""
    yaml = YAML(typ="rt")
    yaml.width = 4096
    stream = io.StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def committed(path: Path) -> str:
    """The file in the last commit, or in the workspace if there is no git or no commit."""
    try:
        shown = subprocess.run(["git", "show", f"HEAD:./{path}"], capture_output=True, text=True, check=False)
    except OSError:
        return path.read_text(encoding="utf-8")
    return shown.stdout if shown.returncode == 0 else path.read_text(encoding="utf-8")


def merged(profile: Path, base: str) -> str:
    """The text of params.yaml: `profile` applied to `base`.

    Raises:
        UserError: a key is unknown, or the result is invalid; names file, line and field.
    """
    change = read_yaml(profile)
    content = YAML(typ="rt").load(base)
    overlay(content, change, profile)
    try:
        validate(content, PARAMS_FILE)
    except UserError as error:
        raise UserError(f"{profile} makes the parameters invalid:\n       {error}") from None
    return to_text(content)


def find(name: str) -> Path:
    """The file of a profile.

    Raises:
        UserError: there is no such profile; lists the existing ones.
    """
    path = PROFILES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.yaml")))
        raise UserError(f"unknown profile {name!r}; available: {known}")
    return path


def machine_of(profile: Path) -> dict[str, str]:
    """The machine that a profile was written for, from its comment "# machine: device <device>, compute <compute profile>"."""
    found = re.search(r"^# machine: device (\S+), compute (\S+)$", profile.read_text(encoding="utf-8"), re.MULTILINE)
    return {"device": found[1], "compute": found[2]} if found else {}


def apply(name: str) -> str:
    """Write params.yaml and return the change as a unified diff ("" if there is none)."""
    before = PARAMS_FILE.read_text(encoding="utf-8")
    after = merged(find(name), committed(PARAMS_FILE))
    write_text(PARAMS_FILE, after)
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), "params.yaml", f"params.yaml ({name})", n=1
    )
    return "".join(lines)


def show() -> None:
    """Print every profile with its first comment."""
    for path in sorted(PROFILES.glob("*.yaml")):
        print(f"{path.stem:16} {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")


def profile_command() -> None:
    """`astro profile [NAME]`."""
    parser = argparse.ArgumentParser(
        prog="astro profile", description="Apply a profile to params.yaml and show the difference."
    )
    parser.add_argument("name", nargs="?", help="name of a file in profiles/ (default: list them all)")
    given = parser.parse_args()
    if given.name:
        print(apply(given.name) or "params.yaml: no change")
    else:
        show()


def main() -> None:
    """See the module's docstring."""
    warn_of_lost_edits()
    match sys.argv[1:]:
        case ["list"]:
            show()
        case ["apply", name]:
            print(apply(name) or "params.yaml: no change")
        case ["check"]:
            for path in (PIPELINE, LOCK, Path("arms.yaml")):
                if path.is_file():
                    require_merged(path.read_text(encoding="utf-8", errors="replace"), path)
            load_params()
            print("params.yaml: valid")
        case _:
            raise UserError("usage: python -m astro.profiles list | apply <name> | check")


if __name__ == "__main__":
    run_stage(main)

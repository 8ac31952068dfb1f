"""DVC's experiments as git sees them: one ref refs/exps/<baseline commit>/<name> per successful run."""

import subprocess

from ruamel.yaml import YAML, YAMLError

from astro.ablations.spec import Planned
from astro.params import PARAMS_FILE, plain
from astro.process import UserError


def git(*arguments: str) -> str:
    """Run git and return its output.

    Raises:
        UserError: git failed; includes its message.
    """
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def head() -> str:
    """The current commit, which is the baseline of experiments.

    Raises:
        UserError: there is no git repository, or no commit.
    """
    try:
        return git("rev-parse", "--verify", "HEAD").strip()
    except UserError as error:
        raise UserError(f"experiments need a git repository with at least one commit: {error}") from None


def ref_of(commit: str, name: str) -> str:
    """The ref of an experiment on `commit`."""
    return f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"


def experiments(commit: str) -> dict[str, str]:
    """Name -> commit of each experiment on `commit`."""
    prefix = ref_of(commit, "")
    lines = git("for-each-ref", "--format=%(refname) %(objectname)", prefix.rstrip("/")).splitlines()
    return {ref.removeprefix(prefix): rev for ref, rev in (line.split() for line in lines)}


def params_at(rev: str) -> dict | None:
    """params.yaml of a commit as plain values; None: it is missing or unreadable."""
    try:
        return plain(YAML(typ="rt").load(git("show", f"{rev}:./{PARAMS_FILE}")))
    except (UserError, YAMLError):
        return None


def done(planned: Planned, known: dict[str, str]) -> str | None:
    """The commit of the experiment, if it was run with exactly these params.

    Args:
        known: name -> commit of the experiments on the present commit (`experiments`). An experiment on another commit
            does not count. It is run again, and DVC's run cache restores what did not change.
    """
    rev = known.get(planned.name)
    return rev if rev and params_at(rev) == planned.params else None


def forget(ref: str) -> None:
    """Delete a ref. A missing ref is ignored."""
    git("update-ref", "-d", ref)


def dirty() -> list[str]:
    """Tracked files that differ from the last commit, relative to the top of the repository."""
    lines = git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=no").split("\0")
    return [line[3:] for line in lines if line]

"""A separate checkout of the last commit for runs, so that a run never changes the user's own checkout.

It is a local clone that shares git's objects and DVC's cache with the user's repository. A successful experiment is
fetched from it. All runs use the same path, because DVC keeps files for each path that it ever worked in.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

from astro.ablations.experiment_refs import forget, git, ref_of
from astro.process import HOME, UserError, home_root

CLONE = Path(".dvc/tmp/ablations")
"""Path of the clone, beside DVC's own copies. Neither git nor DVC looks there."""

PATIENCE_S = 30.0
"""Seconds that the processes of a killed run may take to end."""


def open_checkout(commit: str) -> Path:
    """Create a fresh checkout of the commit. Returns the folder in which runs start.

    Raises:
        UserError: git or DVC refuses, or a process of a killed run does not end.
    """
    close_checkout()
    CLONE.parent.mkdir(parents=True, exist_ok=True)
    top, inside = Path(git("rev-parse", "--show-toplevel").rstrip("\n")), git("rev-parse", "--show-prefix").rstrip("\n")
    git("clone", "-q", "--shared", "--no-checkout", str(top), str(CLONE))
    for key in ("user.name", "user.email"):  # DVC makes commits
        if value := _setting(key):
            git("-C", str(CLONE), "config", key, value)
    git("-C", str(CLONE), "checkout", "-q", "--detach", commit)
    root = CLONE / inside
    local = Path(".dvc/config.local")
    if local.is_file():
        shutil.copy(local, root / local)
    cache = _dvc(Path.cwd(), "cache", "dir").strip()
    _dvc(root, "cache", "dir", "--local", str(Path(cache).resolve()))
    return root


def close_checkout() -> None:
    """Remove the checkout if it exists.

    Raises:
        UserError: a process is working in it and does not end.
    """
    if not CLONE.exists():
        return
    until = time.monotonic() + PATIENCE_S
    while (pid := _at_work()) and time.monotonic() < until:
        time.sleep(0.2)
    if pid:
        raise UserError(f"process {pid} of an earlier run is still working in {CLONE}; wait for it, or stop it")
    shutil.rmtree(CLONE)


def take_over(commit: str, name: str) -> None:
    """Fetch an experiment on `commit` from the checkout. It replaces one of the same name.

    Raises:
        UserError: git refuses.
    """
    ref = ref_of(commit, name)
    if not git("-C", str(CLONE), "for-each-ref", ref):
        return
    forget(ref)
    git("fetch", "-q", "--no-tags", "--no-write-fetch-head", str(CLONE.resolve()), f"{ref}:{ref}")


def environment() -> dict[str, str]:
    """Environment of a run. Work folders and the MLflow store are the user's. The running interpreter comes first in
    PATH, because the stages call `python`.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, HOME: str(home_root()), "DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"}


def _setting(key: str) -> str:
    """A setting of git; "": it is not set."""
    return subprocess.run(["git", "config", key], capture_output=True, text=True, check=False).stdout.strip()


def _dvc(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"dvc {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _at_work() -> int | None:
    """A process whose working folder is in the checkout."""
    inside = CLONE.resolve()
    for process in psutil.process_iter(["cwd"]):
        cwd = process.info["cwd"]
        if cwd and Path(cwd).is_relative_to(inside):
            return process.pid
    return None

"""Runs missing experiments one after the other. It can be stopped at any time.

The ref of an experiment is created only after a successful run, so the refs are the only record of what is done. A
stopped run loses nothing: finished stages are in DVC's run cache, and long stages resume.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from astro.ablations.checkout import close_checkout, environment, open_checkout, take_over
from astro.ablations.committed_results import kept
from astro.ablations.experiment_refs import dirty, done, experiments, head
from astro.ablations.spec import Planned, committed_params
from astro.process import UserError, die_with_parent, work_folder

GRACE_S = 10.0
"""Seconds that DVC may take to end after Ctrl-C (which it receives as well) before it is killed."""


def run(planned: Sequence[Planned]) -> list[str]:
    """Run all experiments that are not done, with one line each. Returns the names of the failed ones.

    Log of each run: work/ablations/<name>.log.

    Raises:
        UserError: there is no git commit, or a second runner is at work.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the next call continues.
    """
    if planned and planned[0].profile and committed_params() != committed_params(planned[0].profile):
        name = planned[0].profile
        raise UserError(
            f"these ablations use profile {name}: run `astro profile {name}`, commit params.yaml, and start again"
        )
    with work_folder("ablations", ".") as folder, _sigterm_interrupts():
        commit = head()
        if files := dirty():
            shown = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
            print(f"[ablations] runs use commit {commit[:7]} and ignore the uncommitted changes in {shown}", flush=True)
        known = experiments(commit)
        todo = [p for p in planned if not done(p, known) and not kept(p)]
        finished, failed, began = len(planned) - len(todo), [], time.monotonic()
        print(f"[ablations] {finished}/{len(planned)} done, {len(todo)} to run on {commit[:7]}", flush=True)
        for number, one in enumerate(todo, 1):
            log = folder / f"{one.name}.log"
            started = time.monotonic()
            code = _run_one(one, log, commit=commit)
            failed += [one.name] if code else []
            elapsed = time.monotonic() - began
            told = f"FAILED (exit code {code}), see {log}" if code else "done"
            print(
                f"[ablations] {finished + number}/{len(planned)} {one.name}: {told} in {clock(time.monotonic() - started)}; "
                f"elapsed {clock(elapsed)}, about {clock(elapsed / number * (len(todo) - number))} left",
                flush=True,
            )
        return failed


def _run_one(one: Planned, log: Path, *, commit: str) -> int:
    """Run one experiment in its own checkout and return DVC's exit code, or 1 if DVC returned 0 without an experiment.

    An experiment of this name on this commit with other params is replaced once the new one exists.
    """
    root = open_checkout(commit)
    print(f"[ablations] {one.name}: {one.command}", flush=True)
    with log.open("ab") as stream:
        stream.write(f"# {commit}\n$ {one.command}\n".encode())
        stream.flush()
        child = subprocess.Popen(
            [sys.executable, "-m", "dvc", *one.arguments],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment(),
            preexec_fn=die_with_parent,
        )
        code = _wait(child)
    take_over(commit, one.name)
    close_checkout()
    return code or (0 if done(one, experiments(commit)) else 1)


def _wait(child: subprocess.Popen) -> int:
    """Wait for the exit code. On an interrupt, the child ends before the interrupt is raised."""
    try:
        return child.wait()
    except KeyboardInterrupt:
        try:
            child.wait(GRACE_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            child.terminate()
            try:
                child.wait(GRACE_S / 2)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                child.kill()  # DVC waits for its stage, which ends with it
                child.wait()
        raise


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def clock(seconds: float) -> str:
    """Format a duration: seconds below two minutes, minutes below two hours, then hours."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 3600:.1f} h"

"""Write down what code each stage depends on: code/<stage>.json, hashes of the modules that it reaches.

    python -m stages.code

DVC runs it at every `dvc repro` (`always_changed`), in a second or two. The stages after it run only where a hash has changed.
`astro.code_identity` says what counts as a change. As the first of every run it also checks params.yaml: DVC holds 2.0 and 2 for
the same, and would refuse neither.

Deviations from the paper: none; the paper has no such thing.
"""

from astro.arms import require_arms
from astro.code_identity import write_all
from astro.params import load_params
from astro.pipeline import warn_of_lost_edits
from astro.runtime import run_stage
from astro.tasks import get_task
from schemas.run import TASKS, RunParams


def require_task(run: RunParams) -> None:
    """Raises UserError: a task of the user's cannot be loaded, or lacks what it needs."""
    if run.task not in TASKS:
        get_task(run.spec)


def main() -> None:
    """Check the params, and write all files."""
    warn_of_lost_edits()
    params = load_params()
    require_arms(params)
    require_task(params.run)
    for _ in write_all(params.run.task):
        pass


if __name__ == "__main__":
    run_stage(main)

"""Write the code identity of each stage: code/<stage>.json with hashes of the modules that the stage depends on.

    python -m stages.code

DVC runs this stage at every `dvc repro` (`always_changed`), in a second or two. Later stages run only if a hash has
changed. `astro.code_identity` defines what counts as a change. As the first stage it also checks params.yaml, because
DVC treats 2.0 and 2 as equal and accepts both.

Deviations from the paper: none; the paper has no such stage.
"""

from astro.arms import require_arms
from astro.code_identity import write_all
from astro.dvc_files import warn_of_lost_edits
from astro.params import load_params
from astro.process import run_stage
from astro.tasks import get_task
from schemas.run import TASKS, RunParams


def require_task(run: RunParams) -> None:
    """Raise UserError if the user's task cannot be loaded or lacks a required method."""
    if run.task not in TASKS:
        get_task(run.spec)


def main() -> None:
    """Check the params and write all identity files."""
    warn_of_lost_edits()
    params = load_params()
    require_arms(params)
    require_task(params.run)
    for _ in write_all(params.run.task):
        pass


if __name__ == "__main__":
    run_stage(main)

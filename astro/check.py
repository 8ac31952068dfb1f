"""Check params.yaml or a task before anything long runs.

astro check                     # params.yaml, and that its task can be loaded
astro check my_task.py          # a task of your own; astro check my_task.py --help says more
astro check gym:mini_sudoku
astro check problems            # what the files of problems hold
"""

import argparse
import sys

AFFECTS_RESULTS = False


def main() -> int:
    """Check what the first argument names: a task, the problem files, or params.yaml."""
    asked = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    if asked.endswith(".py") or asked.startswith("gym:"):
        from astro.task_check import main as check_task

        return check_task()
    argparse.ArgumentParser(
        prog="astro check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    from astro.params import load_params
    from astro.process import UserError
    from astro.tasks import TaskError, get_task
    from schemas.run import TASKS

    params = load_params()
    task = get_task(params.run.spec)
    if params.run.task not in TASKS and params.problems.source == "generated":
        levels = {spec.level: f"problems.eval.{name}.level" for name, spec in params.problems.eval.items()}
        levels |= {int(level): "problems.levels" for level in params.problems.levels}
        for level, where in levels.items():
            try:
                task.problem_many([("check", level)])
            except TaskError as error:
                raise UserError(f"{where}: level {level}: {error}") from None
    print("params.yaml: valid")
    return 0

"""`astro check`: params.yaml, or a task, before anything long runs.

astro check                     # params.yaml
astro check my_task.py          # a task of your own, see astro.task_check
astro check gym:mini_sudoku
"""

import argparse
import sys

AFFECTS_RESULTS = False


def main() -> int:
    """Check what the first argument names."""
    asked = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    if asked.endswith(".py") or asked.startswith("gym:"):
        from astro.task_check import main as check_task

        return check_task()
    argparse.ArgumentParser(
        prog="astro check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    from astro.params import load_params
    from astro.tasks import get_task

    get_task(load_params().run.spec)
    print("params.yaml: valid")
    return 0

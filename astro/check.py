"""`astro check`: params.yaml, or a task, before anything long runs.

astro check                     # params.yaml
astro check my_task.py          # a task of your own, see astro.tasks.user.check
astro check gym:mini_sudoku
"""

import sys

AFFECTS_RESULTS = False


def main() -> int:
    """Check what the first argument names."""
    asked = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    if asked.endswith(".py") or asked.startswith("gym:"):
        from astro.tasks.user.check import main as check_task

        return check_task()
    from astro.profiles import check_command

    check_command()
    return 0

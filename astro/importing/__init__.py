"""Import of problem sets from files and datasets, in the formats that people have."""

from astro.importing.imported import Imported
from astro.tasks import Task
from schemas.problems import ProblemsParams


def import_sets(params: ProblemsParams, task: Task, found: Imported | None = None) -> Imported:
    """Read the sets of `problems.files` as problems of a task.

    Args:
        found: the result that they are added to.

    Raises:
        UserError: a source is missing or empty, or yields no problem; or the set is strict and a row is bad.
    """
    if task.name == "countdown":
        from astro.importing.countdown import import_countdown

        return import_countdown(params, found)
    from astro.importing.problem_sets import import_problems

    return import_problems(params, task, found)

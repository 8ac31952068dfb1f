"""Problem sets from files and datasets, as people have them."""

from astro.importing.imported import Imported
from astro.tasks import Task
from schemas.problems import ProblemsParams


def import_sets(params: ProblemsParams, task: Task, found: Imported | None = None) -> Imported:
    """The sets of `problems.files` as problems of a task. found: what they are added to.

    Raises:
        UserError: a source is missing or empty, or keeps no problem; or a row is bad where the set is strict.
    """
    if task.name == "countdown":
        from astro.importing.countdown import import_countdown

        return import_countdown(params, found)
    from astro.importing.problem_sets import import_problems

    return import_problems(params, task, found)

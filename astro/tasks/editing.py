"""The editor of a task: how its chains are rewritten by a model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from astro.runtime import UserError
from astro.tasks import Task

if TYPE_CHECKING:
    from astro.tasks.math.rewrite import MathEditor


def get_editor(task: Task, *, shots: int, phrases: Sequence[str]) -> "MathEditor":
    """The editor for `task`; its prompts go through the chat template of the task, if that has one.

    Raises:
        UserError: the task has none, or its few-shot examples cannot be read.
    """
    from astro.tasks.math.rewrite import MathEditor
    from astro.tasks.math.task import Math

    if not isinstance(task, Math):
        raise UserError(f"linearize.writer lm: task {type(task).__name__} has no prompts to be rewritten with")
    return MathEditor(task, shots=shots, phrases=phrases)

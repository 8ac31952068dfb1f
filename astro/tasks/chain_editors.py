"""Editors of tasks. An editor rewrites the chains of its task through a model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from astro.process import UserError
from astro.tasks import Task

if TYPE_CHECKING:
    from astro.tasks.math.rewrite import MathEditor


def get_editor(task: Task, *, shots: int, phrases: Sequence[str]) -> "MathEditor":
    """The editor for `task`. Its prompts use the task's chat template, if there is one.

    Raises:
        UserError: the task has no editor, or the editor's few-shot examples cannot be read.
    """
    from astro.tasks.math.rewrite import MathEditor
    from astro.tasks.math.task import Math

    if not isinstance(task, Math):
        raise UserError(f"linearize.writer lm: task {type(task).__name__} has no prompts for rewriting")
    return MathEditor(task, shots=shots, phrases=phrases)

"""Tasks: the kinds of problem that the pipeline can train on. A task writes questions and steps, reads them, and grades answers.

from astro.tasks import Task        # base class for a task of your own, see docs/tasks.md
"""

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from astro.tasks.base import Task, TaskError
from schemas.run import Reading

if TYPE_CHECKING:
    from astro.tasks.chain_reader import JumpWords
    from astro.tasks.chat import ChatTemplate

__all__ = ["Task", "TaskError", "get_task"]


def get_task(
    spec: str, phrases: "JumpWords | None" = None, chat: "ChatTemplate | None" = None, answers: Reading = "box"
) -> Task:
    """Create a task from its specification: a name, optionally followed by a space and its options as JSON.

    Args:
        spec: as written by `schemas.run.RunParams.spec`.
        phrases: the phrases that announce a return (`astro.cloning.verbalize.Phrases`), needed by `parse_chain`; None:
            unknown.
        chat: chat template through which prompts are rendered; None: plain text prompts.
        answers: where a response holds its final answer (`run.answers`), for tasks that support several places.

    Raises:
        ValueError: no task has this name.
        UserError: the user's task cannot be loaded.
    """
    name, _, options = spec.partition(" ")
    if name == "math":
        from astro.tasks.math.task import Math

        make: Callable[..., Task] = Math
    elif name == "countdown":
        from astro.tasks.countdown.task import Countdown

        make = Countdown
    elif name.endswith(".py") or name.startswith("gym:"):
        from astro.tasks.user.task import UserTask

        make = partial(UserTask, name)
    else:
        raise ValueError(
            f"run.task: unknown task {name!r}; available: countdown, math, gym:<name>, and files (my_task.py)"
        )
    return make(phrases, chat, answers, json.loads(options or "{}"))

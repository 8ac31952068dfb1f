"""Tasks: what a kind of problem is, how it is asked, how its steps are written, and how it is graded.

from astro.tasks import Task        # the base class of a task of your own: docs/tasks.md
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
    """A task by its name, with its options behind it (`schemas.run.RunParams.spec`).

    Args:
        phrases: what chains say before they go back (`astro.cloning.verbalize.Phrases`), for `parse_chain`; None: unknown.
        chat: prompts are rendered through it, as messages to a chat model; None: plain text.
        answers: params.run's: how a response gives its final answer, where the task has several ways.

    Raises:
        ValueError: there is none.
        UserError: a task of the user's cannot be loaded.
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
            f"run.task: no task is called {name!r}; there are: countdown, math, gym:<name>, and files (my_task.py)"
        )
    return make(phrases, chat, answers, json.loads(options or "{}"))

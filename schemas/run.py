"""Contract of `run`: the params that all stages share."""

import difflib
import json
import re
from typing import Literal

from pydantic import Field, JsonValue, field_validator

from schemas.strict import Strict

Reading = Literal["box", "box_or_statement"]
"""Ways to read the final answer of a mathematics response."""

READINGS: tuple[Reading, ...] = ("box", "box_or_statement")

TASKS = ("countdown", "math")
"""The tasks of this project."""


class RunParams(Strict):
    """Parameters shared by all stages."""

    seed: int = Field(ge=0, lt=2**31, description="seed from which all random draws of the run derive")
    task: str = Field(
        description="countdown, math, a file of your own (my_task.py), or gym:<name> of reasoning-gym; docs/tasks.md"
    )
    options: dict[str, JsonValue] = Field(description="options of the task; empty: its defaults")
    prompt: Literal["plain", "chat"] = Field(
        description=(
            "chat: problems are messages to a chat model, rendered by its chat template; plain: text to continue"
        )
    )
    answers: Reading = Field(
        description=(
            "math: box: only the last box holds an answer; box_or_statement: without a box, an explicit final "
            'statement ("The answer is 34") also counts'
        )
    )

    @property
    def spec(self) -> str:
        """The task with its options, in the format of `astro.tasks.get_task`."""
        return f"{self.task} {json.dumps(self.options, sort_keys=True)}" if self.options else self.task

    @field_validator("task")
    @classmethod
    def _known(cls, name: str) -> str:
        if name in TASKS or (name.endswith(".py") and " " not in name) or re.fullmatch(r"gym:\w+", name):
            return name
        close = difflib.get_close_matches(name, TASKS, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ValueError(
            f"unknown task {name!r}; {hint}Available: {', '.join(TASKS)}, gym:<name>, and files (my_task.py, "
            "without spaces)"
        )

"""`run`: the params that every stage shares."""

from typing import Literal

from pydantic import Field

from schemas.base import Strict

Reading = Literal["box", "box_or_statement"]
"""How the final answer of a response in mathematics is read."""

READINGS: tuple[Reading, ...] = ("box", "box_or_statement")


class RunParams(Strict):
    """What every stage shares."""

    seed: int = Field(ge=0, lt=2**31, description="root of every seed of the run")
    task: Literal["countdown", "math"] = Field(description="module of astro/tasks")
    prompt: Literal["plain", "chat"] = Field(
        description="chat: problems are messages to a chat model, rendered by its chat template; plain: text to be continued"
    )
    answers: Reading = Field(
        description="math: box: only what the last box holds is an answer; box_or_statement: where there is no box, also an "
        'explicit final statement ("The answer is 34")'
    )

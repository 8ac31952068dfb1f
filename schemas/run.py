"""`run`: the params that every stage shares."""

from typing import Literal

from pydantic import Field

from schemas.base import Strict


class RunParams(Strict):
    """What every stage shares."""

    seed: int = Field(ge=0, lt=2**31, description="root of every seed of the run")
    domain: Literal["countdown", "math"] = Field(description="module of astro/domains")
    prompt: Literal["plain", "chat"] = Field(
        description="chat: problems are messages to a chat model, rendered by its chat template; plain: text to be continued"
    )

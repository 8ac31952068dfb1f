"""Stored completions of RL, in rollouts/<stage>/<curve>/ (astro/training/rollout_store.py)."""

from typing import Literal

from pydantic import Field

from schemas.records import Chain, Extraction, Verdict
from schemas.strict import Strict


class RlRollout(Strict):
    """One completion sampled during RL."""

    set: Literal["train", "validation"]
    step: int = Field(
        ge=0,
        description=(
            "train: the step it was sampled for, from 1; validation: number of steps done so far, 0: the SFT model"
        ),
    )
    problem_id: str = Field(min_length=1)
    number: int = Field(ge=0, description="number within its group")
    prefix: str = Field(
        description='beginning of the chain that it continues (grpo.restart); "": it starts at the problem'
    )
    text: str
    tokens: int = Field(ge=0)
    finished: bool = Field(description="whether it ended by itself; False: grpo.max_completion_length cut it")
    answer: str | None
    verdict: Verdict
    extraction: Extraction | None = Field(
        default=None, exclude_if=lambda value: value is None, description="as in `Completion`"
    )
    reward: float | None = Field(description="None: the reference was unreadable, or it is a validation sample")
    used: bool = Field(description="False: all rewards of its group were equal, so dynamic sampling replaced the group")
    chain: Chain = Field(description="prefix and text as a graph; empty if the question is unreadable")

    @property
    def group(self) -> tuple[str, str]:
        """Key of the group. Completions of one step with the same key are compared with each other."""
        return self.problem_id, self.prefix

"""The completions that RL trained on, kept beside the run: rollouts/<stage>/<curve>/ (astro/training/rollouts.py)."""

from typing import Literal

from pydantic import Field

from schemas.base import Strict
from schemas.records import Chain, Verdict


class RlRollout(Strict):
    """One completion that was sampled during RL."""

    set: Literal["train", "validation"]
    step: int = Field(
        ge=0,
        description="train: the step that it was sampled for, from 1; validation: steps that were done, 0: the SFT model",
    )
    problem_id: str = Field(min_length=1)
    number: int = Field(ge=0, description="within its group")
    prefix: str = Field(
        description='beginning of a chain that it continues (grpo.restart); "": it begins at the problem'
    )
    text: str
    tokens: int = Field(ge=0)
    finished: bool = Field(description="ended by itself; False: cut by grpo.max_completion")
    answer: str | None
    verdict: Verdict
    reward: float | None = Field(description="None: the reference could not be read, or validation")
    used: bool = Field(
        description="False: all rewards of its group were equal, and dynamic sampling replaced the group"
    )
    chain: Chain = Field(description="prefix and text as a graph; empty where the question cannot be read")

    @property
    def group(self) -> tuple[str, str]:
        """Completions of one step with the same group are compared with each other."""
        return self.problem_id, self.prefix

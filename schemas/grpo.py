"""grpo stage: its params and metrics."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.base import Strict


class PassRateParams(Strict):
    """Moderate difficulty: problems that the SFT model solves sometimes (paper section 3.2). 0..1: all, unmeasured."""

    samples: int = Field(ge=1, description="per problem, to measure the pass rate")
    low: float = Field(ge=0, le=1, description="lowest pass rate kept")
    high: float = Field(ge=0, le=1, description="highest pass rate kept")
    problems: int = Field(ge=1, description="use so many of the rl problems (the first ones)")
    runner: Literal["local", "ray"] = Field(description="of the measurement, as mcts.runner")


class GrpoParams(Strict):
    """Group relative policy optimisation with the verifier's reward (paper section 3.2)."""

    steps: int = Field(ge=0, description="0: the SFT model as it is")
    prompts_per_step: int = Field(ge=1)
    group_size: int = Field(ge=2, description="completions per prompt")
    micro_batch: int = Field(ge=1, description="completions per forward and backward pass")
    lr: float = Field(gt=0)
    warmup: float = Field(ge=0, lt=1)
    temperature: float = Field(gt=0)
    max_completion: int = Field(ge=1, description="tokens")
    beta: float = Field(ge=0, description="weight of the KL term; 0: no reference model")
    epsilon: float = Field(gt=0, description="clip range")
    loss_type: Literal["grpo", "dapo", "dr_grpo", "bnpo"]
    scale_rewards: Literal["group", "batch", "none"]
    mask_truncated: bool = Field(description="completions cut by the length limit give no gradient")
    reward_correct: float
    reward_wrong: float
    bf16: bool | Literal["auto"] = Field(description="bfloat16 autocast; auto: where the hardware has it")
    gradient_checkpointing: bool
    save_every: int = Field(ge=1, description="steps between checkpoints in the work folder")
    pass_rate: PassRateParams

    @model_validator(mode="after")
    def _consistent(self) -> "GrpoParams":
        if self.pass_rate.low > self.pass_rate.high:
            raise ValueError(f"pass_rate.low {self.pass_rate.low} is above pass_rate.high {self.pass_rate.high}")
        if (self.prompts_per_step * self.group_size) % self.micro_batch:
            raise ValueError(
                f"micro_batch {self.micro_batch} must divide prompts_per_step * group_size "
                f"({self.prompts_per_step * self.group_size})"
            )
        if self.reward_correct <= self.reward_wrong:
            raise ValueError("reward_correct must be above reward_wrong")
        return self


class GrpoMetrics(Strict):
    """metrics/grpo.json"""

    prompts_measured: int = Field(ge=0)
    prompts_kept: int = Field(ge=0, description="pass rate within the bounds")
    pass_rate: float | None = Field(
        ge=0, le=1, description="of the SFT model over all measured problems; None: nothing was measured (bounds 0..1)"
    )
    steps: int = Field(ge=0)
    completions: int = Field(ge=0)
    reward_first: float | None = Field(description="mean reward over the first 10 % of steps; None: no step")
    reward_last: float | None = Field(description="mean reward over the last 10 % of steps; None: no step")

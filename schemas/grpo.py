"""grpo stage: its params and metrics."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.base import Strict
from schemas.lora import LoraParams


class PassRateParams(Strict):
    """Moderate difficulty: problems that the SFT model solves sometimes (paper section 3.2). 0..1: all, unmeasured."""

    samples: int = Field(ge=1, description="per problem, to measure the pass rate")
    low: float = Field(ge=0, le=1, description="lowest pass rate kept")
    high: float = Field(ge=0, le=1, description="highest pass rate kept")
    problems: int = Field(ge=1, description="use so many of the rl problems (the first ones)")


class RestartParams(Strict):
    """Restart-and-Explore (Satori): some episodes go on from the middle of a chain that SFT was trained on."""

    share: float = Field(ge=0, lt=1, description="of the prompts that are restarts; 0: none")
    states: Literal["wrong", "any"] = Field(
        description="where a chain is cut. wrong: behind a wrong step; any: behind any step but the last. The comparator's "
        "chains hold no wrong step: it restarts in the middle of right ones"
    )


class ValidationParams(Strict):
    """Measure the model while it trains, on the last problems of the rl set. RL never trains on them."""

    problems: int = Field(ge=0, description="held out of the rl set, from its end; 0: no validation")
    every: int = Field(
        ge=1, description="optimizer steps between two measurements; also before the first step and after the last"
    )
    samples: int = Field(ge=1, description="completions per problem, drawn from the same seeds each time")
    margin: float = Field(
        ge=0,
        description="keep best: standard errors of the paired difference by which the best must lead a later checkpoint to be "
        "preferred; 0: the highest pass@1 wins",
    )
    patience: int = Field(
        ge=0, description="stop after so many measurements in a row that the kept checkpoint clearly leads; 0: never"
    )


CLIPPED = ("grpo", "dapo", "dr_grpo", "bnpo", "luspo")
"""Losses that clip the ratio of new to old policy on both sides."""


class GrpoParams(Strict):
    """Group relative policy optimisation with the verifier's reward (paper section 3.2)."""

    steps: int = Field(ge=0, description="0: the SFT model as it is")
    prompts_per_step: int = Field(ge=1, description="problems in each batch of completions")
    group_size: int = Field(ge=2, description="completions per prompt")
    micro_batch: int = Field(ge=1, description="completions per forward and backward pass of one process")
    num_iterations: int = Field(ge=1, description="optimizer steps on each batch of completions")
    lr: float = Field(gt=0, description="peak learning rate")
    warmup: float = Field(ge=0, lt=1, description="share of the steps")
    temperature: float = Field(gt=0, description="of the sampled completions")
    max_completion: int = Field(ge=1, description="tokens")
    beta: float = Field(ge=0, description="weight of the KL term; 0: no reference model")
    epsilon: float = Field(gt=0, description="clip range; cispo, sapo and vespo do not read it")
    epsilon_high: float = Field(
        ge=0, description="clip range upwards (DAPO: 0.28); 0: epsilon. cispo: largest weight of a token (ScaleRL: 5.0)"
    )
    delta: float = Field(ge=0, description="largest ratio for negative advantages (INTELLECT-2: 4.0); 0: no bound")
    loss_type: Literal["grpo", "dapo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = Field(
        description="TRL's name of the loss; docs/rl.md says what each is"
    )
    importance_level: Literal["token", "sequence"] = Field(
        description="ratios of new to old policy per token, or one per completion (GSPO: sequence with loss_type grpo)"
    )
    top_entropy: float = Field(gt=0, le=1, description="share of the tokens, by entropy, that the loss is on; 1: all")
    scale_rewards: Literal["group", "batch", "none"] = Field(
        description="advantages are divided by the standard deviation of the rewards of the group, of the batch, or not at all"
    )
    mask_truncated: bool = Field(description="completions cut by the length limit give no gradient")
    reward_correct: float = Field(description="of a completion with the right answer")
    reward_wrong: float = Field(description="of any other completion")
    dtype: Literal["float32", "bfloat16"] = Field(
        description="of the weights as loaded and saved; see bf16 for the arithmetic"
    )
    bf16: bool | Literal["auto"] = Field(description="bfloat16 autocast; auto: where the hardware has it")
    gradient_checkpointing: bool = Field(description="compute activations twice to save memory")
    save_every: int = Field(ge=1, description="steps between checkpoints in the work folder")
    generation: Literal["hf", "vllm_colocate", "vllm_server"] = Field(
        description="who samples: transformers' generate; vLLM in the training processes; a vLLM server on GPUs of its own"
    )
    seeded: bool = Field(
        description="each completion is drawn from the seed, step, prompt and its number in the group, so that the curve does "
        "not depend on how many processes train"
    )
    correction: Literal["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] = Field(
        description="vllm_*: importance weights for what vLLM's probabilities differ from the trainer's"
    )
    correction_max: float = Field(gt=1, description="vllm_*: weights above are cut to it (truncate) or to 0 (mask)")
    keep: Literal["last", "best"] = Field(description="which checkpoint is published; best: by validation")
    validation: ValidationParams
    curriculum: Literal["none", "easy_first"] = Field(
        description="order of the prompts; easy_first: by the pass rate of the SFT model, which is then measured"
    )
    refills: int = Field(
        ge=0,
        description="rounds per step in which groups of equal rewards are replaced by new prompts (dynamic sampling); 0: none",
    )
    lora: LoraParams
    restart: RestartParams
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
        if self.save_every % self.num_iterations:
            raise ValueError(
                f"save_every {self.save_every} must be a multiple of num_iterations {self.num_iterations}: a run that goes on "
                "samples anew, and would go on in the middle of a batch"
            )
        return self

    @model_validator(mode="after")
    def _validated(self) -> "GrpoParams":
        """What needs a validation set, and what a curriculum cannot order."""
        validation = self.validation
        if self.keep == "best" and not validation.problems:
            raise ValueError("keep best chooses by validation: set validation.problems above 0, or keep last")
        if validation.patience and self.keep != "best":
            raise ValueError(
                f"validation.patience {validation.patience} stops when no checkpoint gets better: it goes with keep best"
            )
        if validation.problems and validation.every % self.num_iterations:
            raise ValueError(
                f"validation.every {validation.every} must be a multiple of num_iterations {self.num_iterations}: a "
                "checkpoint is saved after each measurement, and a run cannot resume in the middle of a batch"
            )
        if self.curriculum != "none" and self.restart.share:
            raise ValueError(
                f"curriculum {self.curriculum} goes with restart.share 0 only: states in the middle of chains have no pass rate"
            )
        return self

    @model_validator(mode="after")
    def _lora_fits(self) -> "GrpoParams":
        if self.lora.quantize != "none" and (not self.lora.enabled or self.generation != "hf"):
            raise ValueError(f"lora.quantize {self.lora.quantize} goes with lora.enabled and generation hf only")
        return self

    @model_validator(mode="after")
    def _loss_takes_its_settings(self) -> "GrpoParams":
        """What TRL would ignore, or read in another sense than meant."""
        loss = self.loss_type
        if loss == "cispo" and self.epsilon_high < 1:
            raise ValueError(
                f"epsilon_high {self.epsilon_high}: with loss_type cispo it is the largest weight of a token, at least 1 (5.0)"
            )
        if loss in ("sapo", "vespo") and self.epsilon_high:
            raise ValueError(f"epsilon_high {self.epsilon_high}: loss_type {loss} does not clip; set it to 0")
        if self.delta and loss not in CLIPPED:
            raise ValueError(
                f"delta {self.delta}: loss_type {loss} does not read it; it goes with {', '.join(CLIPPED)}"
            )
        if self.delta and self.delta <= 1 + (self.epsilon_high or self.epsilon):
            raise ValueError(f"delta {self.delta} must be above 1 + epsilon_high, where clipping begins")
        wanted = {"luspo": "sequence", "vespo": "token"}.get(loss, self.importance_level)
        if wanted != self.importance_level:
            raise ValueError(f"loss_type {loss} needs importance_level {wanted}")
        if loss == "vespo" and self.generation != "hf" and self.correction.startswith("sequence"):
            raise ValueError(
                f"loss_type vespo needs correction token_truncate, token_mask or none, not {self.correction}"
            )
        return self


class ValidationPoint(Strict):
    """The model after some steps, on the held-out problems."""

    step: int = Field(ge=0, description="optimizer steps done; 0: the SFT model")
    pass_at_1: float = Field(ge=0, le=1)
    length: float = Field(ge=0, description="mean tokens per completion")
    mean_backtracks: float = Field(ge=0, description="per completion")
    truncated: float = Field(ge=0, le=1, description="share of completions cut by max_completion")


class ValidationMetrics(Strict):
    """What validation found, and what was published by it."""

    problems: int = Field(ge=1)
    points: list[ValidationPoint] = Field(min_length=1)
    published_step: int = Field(ge=0, description="of the published model; 0: the SFT model as it is")
    stopped_early: bool


class RefillMetrics(Strict):
    """What dynamic sampling cost."""

    groups_dropped: int = Field(ge=0, description="groups of equal rewards that were replaced")
    tokens: int = Field(ge=0, description="sampled in all, dropped groups included")


class GrpoMetrics(Strict):
    """metrics/grpo.json"""

    prompts_measured: int = Field(ge=0)
    prompts_kept: int = Field(ge=0, description="pass rate within the bounds")
    pass_rate: float | None = Field(
        ge=0, le=1, description="of the SFT model over all measured problems; None: nothing was measured (bounds 0..1)"
    )
    steps: int = Field(ge=0)
    completions: int = Field(ge=0)
    restart_prompts: int = Field(
        ge=0, description="prompts that go on from the middle of an SFT chain, among those trained on"
    )
    reward_first: float | None = Field(description="mean reward over the first 10 % of steps; None: no step has one")
    reward_last: float | None = Field(description="mean reward over the last 10 % of steps; None: no step has one")
    validation: ValidationMetrics | None = Field(
        default=None, exclude_if=lambda value: value is None, description="absent: grpo.validation.problems is 0"
    )
    refills: RefillMetrics | None = Field(
        default=None, exclude_if=lambda value: value is None, description="absent: grpo.refills is 0"
    )

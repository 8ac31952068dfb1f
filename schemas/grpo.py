"""Contracts of the grpo stage: its params and metrics."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.lora import LoraParams
from schemas.strict import Strict


class PassRateParams(Strict):
    """Filter for moderate difficulty: problems that the SFT model solves sometimes (paper section 3.2). 0..1: no filter."""

    samples: int = Field(ge=1, description="samples per problem for measuring its pass rate")
    low: float = Field(ge=0, le=1, description="lowest accepted pass rate")
    high: float = Field(ge=0, le=1, description="highest accepted pass rate")
    problems: int = Field(ge=1, description="number of rl problems to use, from the front")


class RestartParams(Strict):
    """Restart-and-Explore (Satori): some episodes start in the middle of an SFT chain."""

    fraction: float = Field(ge=0, lt=1, description="fraction of the prompts that are restarts; 0: none")
    states: Literal["wrong", "any"] = Field(
        description=(
            "place of the cut in a chain. wrong: after a wrong step; any: after any step but the last. The baseline's"
            " chains contain no wrong step, so it restarts in the middle of correct ones"
        )
    )


class ValidationParams(Strict):
    """Validation during training, on the last problems of the rl set. RL never trains on them."""

    problems: int = Field(ge=0, description="problems held out from the end of the rl set; 0: no validation")
    every: int = Field(
        ge=1,
        description=(
            "optimizer steps between two measurements; there is also one before the first step and one after the last"
        ),
    )
    samples: int = Field(ge=1, description="completions per problem, drawn with the same seeds at each measurement")
    margin: float = Field(
        ge=0,
        description=(
            "keep best: standard errors of the paired difference by which the best checkpoint must lead a later one "
            "to be preferred; 0: the highest pass@1 wins"
        ),
    )
    patience: int = Field(
        ge=0,
        description=("consecutive measurements clearly below the kept checkpoint after which training stops; 0: never"),
    )


CLIPPED = ("grpo", "dapo", "dr_grpo", "bnpo", "luspo")
"""Losses that clip the ratio of new to old policy on both sides."""


class GrpoParams(Strict):
    """Group relative policy optimisation with the verifier's reward (paper section 3.2)."""

    steps: int = Field(ge=0, description="optimizer steps; 0: the SFT model is published unchanged")
    prompts_per_step: int = Field(ge=1, description="problems in each batch of completions")
    group_size: int = Field(ge=2, description="completions per prompt")
    micro_batch: int = Field(ge=1, description="completions per forward and backward pass of one process")
    num_iterations: int = Field(ge=1, description="optimizer steps on each batch of completions")
    lr: float = Field(gt=0, description="peak learning rate")
    warmup: float = Field(ge=0, lt=1, description="share of the steps during which the learning rate rises")
    temperature: float = Field(gt=0, description="sampling temperature of the completions")
    max_completion_length: int = Field(ge=1, description="longest completion in tokens")
    beta: float = Field(ge=0, description="weight of the KL term; 0: no reference model")
    epsilon: float = Field(gt=0, description="clip range; not used by cispo, sapo and vespo")
    epsilon_high: float = Field(
        ge=0,
        description=(
            "upper clip range (DAPO: 0.28); 0: same as epsilon. cispo: largest weight of a token (ScaleRL: 5.0)"
        ),
    )
    delta: float = Field(ge=0, description="largest ratio for negative advantages (INTELLECT-2: 4.0); 0: unlimited")
    loss_type: Literal["grpo", "dapo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = Field(
        description="TRL's name of the loss; docs/rl.md lists them"
    )
    importance_level: Literal["token", "sequence"] = Field(
        description="ratios of new to old policy per token, or one per completion (GSPO: sequence with loss_type grpo)"
    )
    top_entropy: float = Field(
        gt=0, le=1, description=("share of the tokens, highest entropy first, that contribute to the loss; 1: all")
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        description="advantages are divided by the standard deviation of the rewards of the group, of the batch, or not at all"
    )
    mask_truncated: bool = Field(
        description=("whether completions cut by the length limit are excluded from the gradient")
    )
    reward_correct: float = Field(description="reward of a completion with the right answer")
    reward_wrong: float = Field(description="reward of any other completion")
    dtype: Literal["float32", "bfloat16"] = Field(
        description="precision of the loaded and saved weights; bf16 sets that of the arithmetic"
    )
    bf16: bool | Literal["auto"] = Field(description="bfloat16 autocast; auto: if the hardware supports it")
    gradient_checkpointing: bool = Field(description="recompute activations to save memory")
    save_every: int = Field(ge=1, description="steps between checkpoints in the work folder")
    generation: Literal["hf", "vllm_colocate", "vllm_server"] = Field(
        description=(
            "generator of completions: transformers' generate; vLLM inside the training processes; a vLLM server on "
            "separate GPUs"
        )
    )
    seeded: bool = Field(
        description=(
            "seed each completion from the run's seed, the step, the prompt and its number in the group, so that the "
            "curve does not depend on the number of training processes"
        )
    )
    correction: Literal["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] = Field(
        description=(
            "vllm_*: importance weights that correct the difference between vLLM's probabilities and the trainer's"
        )
    )
    correction_max: float = Field(gt=1, description="vllm_*: weights above are cut to it (truncate) or to 0 (mask)")
    keep: Literal["last", "best"] = Field(description="which checkpoint is published; best: chosen by validation")
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
                f"save_every {self.save_every} must be a multiple of num_iterations {self.num_iterations}, because "
                "a run cannot resume in the middle of a batch"
            )
        return self

    @model_validator(mode="after")
    def _validated(self) -> "GrpoParams":
        """Check settings that need validation problems, and curricula that cannot work."""
        validation = self.validation
        if self.keep == "best" and not validation.problems:
            raise ValueError("keep best needs validation; set validation.problems above 0, or keep to last")
        if validation.patience and self.keep != "best":
            raise ValueError(
                f"validation.patience {validation.patience} needs keep best, because it stops when no checkpoint "
                "gets better"
            )
        if validation.problems and validation.every % self.num_iterations:
            raise ValueError(
                f"validation.every {validation.every} must be a multiple of num_iterations {self.num_iterations}, "
                "because a checkpoint follows each measurement and a run cannot resume in the middle of a batch"
            )
        if self.curriculum != "none" and self.restart.fraction:
            raise ValueError(
                f"curriculum {self.curriculum} needs restart.fraction 0, because states in the middle of chains have "
                "no pass rate"
            )
        return self

    @model_validator(mode="after")
    def _lora_fits(self) -> "GrpoParams":
        if self.lora.quantize != "none" and (not self.lora.enabled or self.generation != "hf"):
            raise ValueError(f"lora.quantize {self.lora.quantize} needs lora.enabled and generation hf")
        return self

    @model_validator(mode="after")
    def _loss_takes_its_settings(self) -> "GrpoParams":
        """Refuse loss settings that TRL would ignore or interpret differently."""
        loss = self.loss_type
        if loss == "cispo" and self.epsilon_high < 1:
            raise ValueError(
                f"epsilon_high {self.epsilon_high}: with loss_type cispo it is the largest weight of a token and "
                "must be at least 1 (ScaleRL: 5.0)"
            )
        if loss in ("sapo", "vespo") and self.epsilon_high:
            raise ValueError(f"epsilon_high {self.epsilon_high}: loss_type {loss} does not clip; set it to 0")
        if self.delta and loss not in CLIPPED:
            raise ValueError(
                f"delta {self.delta}: loss_type {loss} does not use it; remove it, or use loss_type "
                f"{', '.join(CLIPPED)}"
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
    """Figures of the model on the held-out problems at one step."""

    step: int = Field(ge=0, description="optimizer steps so far; 0: the SFT model")
    pass_at_1: float = Field(ge=0, le=1)
    length: float = Field(ge=0, description="mean tokens per completion")
    mean_backtracks: float = Field(ge=0, description="mean number of returns per completion")
    truncated: float = Field(ge=0, le=1, description="share of completions cut by max_completion_length")


class ValidationMetrics(Strict):
    """Measurements of validation and the published step."""

    problems: int = Field(ge=1)
    points: list[ValidationPoint] = Field(min_length=1)
    published_step: int = Field(ge=0, description="step of the published model; 0: the SFT model unchanged")
    stopped_early: bool


class RefillMetrics(Strict):
    """Cost of dynamic sampling."""

    groups_dropped: int = Field(ge=0, description="groups of equal rewards that were replaced")
    tokens: int = Field(ge=0, description="sampled tokens, including those of dropped groups")


class GrpoMetrics(Strict):
    """Content of metrics/grpo.json."""

    prompts_measured: int = Field(ge=0)
    prompts_kept: int = Field(ge=0, description="prompts whose pass rate is within the bounds")
    pass_rate: float | None = Field(
        ge=0,
        le=1,
        description=("pass rate of the SFT model over all measured problems; None: not measured (bounds 0..1)"),
    )
    steps: int = Field(ge=0)
    completions: int = Field(ge=0)
    restart_prompts: int = Field(ge=0, description="number of training prompts that continue an SFT chain")
    reward_first: float | None = Field(description="mean reward over the first 10 % of steps; None: no step has one")
    reward_last: float | None = Field(description="mean reward over the last 10 % of steps; None: no step has one")
    validation: ValidationMetrics | None = Field(
        default=None, exclude_if=lambda value: value is None, description="missing if grpo.validation.problems is 0"
    )
    refills: RefillMetrics | None = Field(
        default=None, exclude_if=lambda value: value is None, description="missing if grpo.refills is 0"
    )

"""eval stage: its params and metrics."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.base import Strict
from schemas.run import Reading


class EvalParams(Strict):
    """How models are measured (paper section 4)."""

    samples: int = Field(ge=1, description="completions per problem; pass@1 is their mean")
    majority: int = Field(ge=1, description="k of maj@k; at most samples")
    temperature: float = Field(ge=0, description="0: greedy")
    max_tokens: int = Field(ge=1, description="longest completion")
    long_tokens: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        description="accuracy against the token limit, up to so many tokens; above max_tokens the chains that it cut go on; "
        "auto: max_tokens, which samples nothing more; 0: no such curve"
    )
    search: int = Field(
        ge=0, description="problems per eval set that the base model searches with params.mcts at test time; 0: none"
    )
    bootstrap: int = Field(ge=100, description="resamples of the problems for the 95 % interval")

    @model_validator(mode="after")
    def _k(self) -> "EvalParams":
        if self.majority > self.samples:
            raise ValueError(f"majority {self.majority} is above samples {self.samples}")
        if self.long_tokens and self.longest < self.max_tokens:
            raise ValueError(
                f"long_tokens {self.long_tokens} is below max_tokens {self.max_tokens}: take auto, 0 (no curve) or more"
            )
        return self

    @property
    def longest(self) -> int:
        """Highest limit of the curve; 0: there is none."""
        return self.max_tokens if self.long_tokens == "auto" else self.long_tokens


class Estimate(Strict):
    """A mean over problems with its 95 % percentile-bootstrap interval (problems resampled)."""

    value: float
    low: float
    high: float
    n: int = Field(ge=0, description="problems")


class AfterBacktracks(Strict):
    """Chains that went back exactly so often."""

    backtracks: int = Field(ge=0)
    chains: int = Field(ge=0)
    accuracy: float | None = Field(description="share of them that are correct; None: no such chain")


class AttemptMetrics(Strict):
    """The i-th attempt of all chains that made one."""

    attempt: int = Field(ge=1)
    chains: int = Field(ge=0, description="chains that ended an i-th attempt")
    right: float | None = Field(description="share of these attempts that solve the problem")
    valid: float | None = Field(description="share whose every step is legal")
    novel: float | None = Field(description="share that repeat no earlier attempt of the chain")


class Decisions(Strict):
    """Is it right so far? What the model does at the end of an attempt, against the truth."""

    stop_when_right: float | None = Field(
        description="recall of stopping: right attempts after which the chain answers"
    )
    back_when_wrong: float | None = Field(description="wrong attempts after which the chain goes back")
    stop_precision: float | None = Field(description="of the attempts it stops at, share that are right")
    claim_accuracy: float | None = Field(description="share of explicit checks (yes / no) that are true")
    right_attempts: int = Field(ge=0)
    wrong_attempts: int = Field(ge=0)


class ModelMetrics(Strict):
    """One model on one eval set."""

    pass_at_1: Estimate
    maj_at_k: Estimate
    first_attempt: Estimate = Field(description="share of chains whose first finished attempt solves the problem")
    tokens: float = Field(ge=0, description="mean generated tokens per chain")
    backtracks: float = Field(ge=0, description="mean per chain")
    backtracking_share: float = Field(ge=0, le=1, description="share of chains that go back at least once")
    repeat_share: float | None = Field(description="share of attempts that repeat one already made; None: no attempt")
    valid_steps: float | None = Field(description="share of legal steps; None: no step")
    truncated: float = Field(ge=0, le=1, description="share of chains cut by the length limit")
    unparseable: float = Field(ge=0, le=1, description="share of chains without a readable answer")
    by_backtracks: list[AfterBacktracks]
    by_attempt: list[AttemptMetrics]
    decisions: Decisions
    backtracks_score_r: float | None = Field(
        description="Pearson correlation over problems of mean backtracks and mean score; None: no variance"
    )
    backtracks_at_equal_tokens: Estimate | None = Field(
        default=None,
        description="partial correlation with the score over chains of the same problem, tokens held; None: no variance",
    )
    tokens_at_equal_backtracks: Estimate | None = Field(default=None, description="the same, backtracks held")


class PairedDifference(Strict):
    """pass@1 of `better` minus pass@1 of `worse`, paired on the same problems."""

    better: str
    worse: str
    difference: Estimate


class BudgetPoint(Strict):
    """One budget of one way to spend tokens."""

    budget: int = Field(ge=1, description="one_sample, search: most tokens; best_of_n, majority: N samples")
    tokens: float = Field(ge=0, description="generated per problem, mean over problems: the x of the plot")
    accuracy: Estimate = Field(description="over problems, in 0..1")


class BudgetCurve(Strict):
    """Accuracy against generated tokens per problem, for one model and one way to spend them on one eval set."""

    label: str = Field(min_length=1, description="whose curve: the model")
    method: Literal["one_sample", "best_of_n", "majority", "search"] = Field(
        description="one_sample: one chain, cut at the budget; best_of_n: N chains, the verifier chooses (oracle); "
        "majority: N chains vote; search: MCTS at test time, the verifier chooses (oracle)"
    )
    points: list[BudgetPoint] = Field(min_length=1, description="budgets ascend")


class EqualTokens(Strict):
    """One uncut chain that searches in context (`better`), and another way to spend as many tokens (`worse`).

    The names say what is compared, as in PairedDifference, not who wins.
    """

    better: str = Field(description="model whose chains search")
    worse: str = Field(description="<label>_<method> of the other curve")
    tokens: float = Field(ge=0, description="mean generated tokens of better's chains per problem")
    accuracy: float = Field(ge=0, le=1, description="of one chain of better")
    other: float | None = Field(
        ge=0, le=1, description="of the other at so many tokens, interpolated; None: its curve does not reach there"
    )


class LimitPoint(Strict):
    """All chains of a model, as they stand at one token limit."""

    limit: int = Field(ge=1, description="tokens after which a chain is cut")
    accuracy: Estimate = Field(description="over problems; at eval.max_tokens this is pass@1")
    tokens: float = Field(ge=0, description="mean tokens per chain, at most the limit each")
    truncated: float = Field(ge=0, le=1, description="share of chains that had not ended by themselves")


class LimitCurve(Strict):
    """Accuracy against the token limit, from one set of chains."""

    model: str
    points: list[LimitPoint] = Field(min_length=1, description="limits ascend")


class EvalMetrics(Strict):
    """metrics/eval.json: sets -> models -> figures."""

    samples: int = Field(ge=1)
    seed: int
    sets: dict[str, dict[str, ModelMetrics]]
    differences: dict[str, list[PairedDifference]]
    budgets: dict[str, list[BudgetCurve]] = Field(
        default={}, description="set -> curves; absent in metrics of before they were drawn"
    )
    equal_tokens: dict[str, list[EqualTokens]] = Field(default={}, description="set -> rows; absent as budgets")
    base_by_reading: dict[str, dict[Reading, Estimate]] = Field(
        default={},
        exclude_if=lambda value: not value,  # so that the metrics of a task without readings keep their bytes
        description="math: set -> reading of answers (run.answers) -> pass@1 of the base model",
    )
    token_limits: dict[str, list[LimitCurve]] = Field(
        default={},
        exclude_if=lambda value: not value,
        description="set -> a curve per model; absent: eval.long_tokens is 0",
    )

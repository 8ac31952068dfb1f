"""Contracts of the eval stage: its params and metrics."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.run import Reading
from schemas.strict import Strict


class EvalParams(Strict):
    """Measurement of the models (paper section 4)."""

    samples: int = Field(ge=1, description="completions per problem; pass@1 is their mean")
    majority: int = Field(ge=1, description="the k of maj@k; at most samples")
    baseline_samples: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        description=(
            "completions per problem of the base and of the arms that are baselines, for the comparison at equal tokens, as "
            "their answers are short; all other figures take the first `samples` of them; at least samples; auto: samples"
        )
    )
    temperature: float = Field(ge=0, description="0: greedy")
    max_tokens: int = Field(ge=1, description="longest completion in tokens")
    long_tokens: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        description=(
            "largest token limit of the accuracy curve; above max_tokens, cut chains are continued; auto: max_tokens,"
            " without any further samples; 0: no curve"
        )
    )
    mcts_problems: int = Field(
        ge=0, description="problems per eval set for test-time search by the base model with params.mcts; 0: none"
    )
    bootstrap_resamples: int = Field(ge=100, description="resamples of the problems for the 95 % bootstrap interval")

    @model_validator(mode="after")
    def _k(self) -> "EvalParams":
        if self.majority > self.samples:
            raise ValueError(f"majority {self.majority} is above samples {self.samples}")
        if self.of_baselines < self.samples:
            raise ValueError(
                f"baseline_samples {self.baseline_samples} is below samples {self.samples}; set it to auto"
            )
        if self.long_tokens and self.longest < self.max_tokens:
            raise ValueError(
                f"long_tokens {self.long_tokens} is below max_tokens {self.max_tokens}; set it to auto, to 0 (no "
                "curve), or to at least max_tokens"
            )
        return self

    @property
    def of_baselines(self) -> int:
        """Completions per problem of the base and of a baseline's models."""
        return self.samples if self.baseline_samples == "auto" else self.baseline_samples

    @property
    def longest(self) -> int:
        """Largest limit of the curve; 0: there is no curve."""
        return self.max_tokens if self.long_tokens == "auto" else self.long_tokens


class Estimate(Strict):
    """A mean over problems with its 95 % percentile bootstrap interval (problems are resampled)."""

    value: float
    low: float
    high: float
    n: int = Field(ge=0, description="number of problems")


class AfterBacktracks(Strict):
    """Chains with exactly this number of returns."""

    backtracks: int = Field(ge=0)
    chains: int = Field(ge=0)
    accuracy: float | None = Field(description="share of them that are correct; None: there are none")


class AttemptMetrics(Strict):
    """The i-th attempt of all chains that have one."""

    attempt: int = Field(ge=1)
    chains: int = Field(ge=0, description="number of chains with an i-th attempt")
    right: float | None = Field(description="share of these attempts that solve the problem")
    valid: float | None = Field(description="share of these attempts in which every step is legal")
    novel: float | None = Field(description="share of these attempts that differ from all earlier ones of the chain")


class Decisions(Strict):
    """Decisions at the end of an attempt (stop or go back), compared with whether it was correct."""

    stop_when_right: float | None = Field(
        description="share of correct attempts after which the chain answers (recall of stopping)"
    )
    back_when_wrong: float | None = Field(description="share of wrong attempts after which the chain goes back")
    stop_precision: float | None = Field(description="share of correct attempts among those at which the chain stops")
    claim_accuracy: float | None = Field(description="share of explicit checks (yes / no) that are true")
    right_attempts: int = Field(ge=0)
    wrong_attempts: int = Field(ge=0)


class ModelMetrics(Strict):
    """Figures of one model on one eval set."""

    pass_at_1: Estimate
    maj_at_k: Estimate
    first_attempt: Estimate = Field(description="share of chains whose first finished attempt solves the problem")
    tokens: float = Field(ge=0, description="mean generated tokens per chain")
    backtracks: float = Field(ge=0, description="mean number of returns per chain")
    backtracking_share: float = Field(ge=0, le=1, description="share of chains that go back at least once")
    repeat_share: float | None = Field(description="share of attempts that repeat an earlier one; None: no attempt")
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
        description=(
            "partial correlation with the score over chains of the same problem, with tokens held constant; None: no "
            "variance"
        ),
    )
    tokens_at_equal_backtracks: Estimate | None = Field(
        default=None, description=("the same, with the number of returns held constant")
    )


class PairedDifference(Strict):
    """pass@1 of `better` minus pass@1 of `worse`, paired on the same problems."""

    better: str
    worse: str
    difference: Estimate


class BudgetPoint(Strict):
    """One point of a budget curve."""

    budget: int = Field(
        ge=1, description=("one_sample, search: largest number of tokens; best_of_n, majority: number of samples")
    )
    tokens: float = Field(ge=0, description="generated tokens per problem, mean over problems (the x axis)")
    accuracy: Estimate = Field(description="over problems, in 0..1")


class BudgetCurve(Strict):
    """Accuracy against generated tokens per problem, for one model, one eval set and one way to spend the tokens."""

    label: str = Field(min_length=1, description="name of the model")
    method: Literal["one_sample", "best_of_n", "majority", "search"] = Field(
        description="one_sample: one chain, cut at the budget; best_of_n: N chains, the verifier chooses (oracle); "
        "majority: N chains vote; search: MCTS at test time, the verifier chooses (oracle)"
    )
    points: list[BudgetPoint] = Field(min_length=1, description="points in ascending order of budgets")


class EqualTokens(Strict):
    """Comparison of one uncut chain that searches in context (`better`) with another use of equally many tokens (`worse`).

    As in PairedDifference, the names say what is compared, not which one wins.
    """

    better: str = Field(description="model whose chains search in context")
    worse: str = Field(description="<label>_<method> of the other curve")
    tokens: float = Field(ge=0, description="mean generated tokens of better's chains per problem")
    accuracy: float = Field(ge=0, le=1, description="accuracy of one chain of better")
    other: float | None = Field(
        ge=0,
        le=1,
        description=("accuracy of the other at the same number of tokens, interpolated; None: its curve ends before"),
    )


class LimitPoint(Strict):
    """All chains of a model, cut at one token limit."""

    limit: int = Field(ge=1, description="tokens after which a chain is cut")
    accuracy: Estimate = Field(description="accuracy over problems; at eval.max_tokens it equals pass@1")
    tokens: float = Field(ge=0, description="mean tokens per chain after the cut")
    truncated: float = Field(ge=0, le=1, description="share of chains that had not ended by themselves")


class LimitCurve(Strict):
    """Accuracy against the token limit, from one set of chains."""

    model: str
    points: list[LimitPoint] = Field(min_length=1, description="points in ascending order of limits")


class EvalMetrics(Strict):
    """Content of metrics/eval.json: sets -> models -> figures."""

    samples: int = Field(ge=1)
    seed: int
    sets: dict[str, dict[str, ModelMetrics]]
    differences: dict[str, list[PairedDifference]]
    budgets: dict[str, list[BudgetCurve]] = Field(
        default={}, description="set -> curves; missing in metrics of older versions"
    )
    equal_tokens: dict[str, list[EqualTokens]] = Field(
        default={}, description=("set -> comparisons; missing in metrics of older versions")
    )
    base_by_reading: dict[str, dict[Reading, Estimate]] = Field(
        default={},
        exclude_if=lambda value: not value,  # keeps the bytes of metrics of tasks without several readings
        description="math: set -> reading of answers (run.answers) -> pass@1 of the base model",
    )
    token_limits: dict[str, list[LimitCurve]] = Field(
        default={},
        exclude_if=lambda value: not value,
        description="set -> one curve per model; missing if eval.long_tokens is 0",
    )

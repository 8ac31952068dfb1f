"""mcts stage: its params and metrics."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.base import Strict


class SavingsParams(Strict):
    """Less work for a tree. The first leaves every tree the same; the others change what is drawn."""

    grade_once: bool = Field(description="equal responses of one tree are graded once; the tree is the same")
    merge_steps: bool = Field(
        description="sampled steps that reach the same state are one child, with one set of rollouts; false: one child each"
    )
    reuse_rollouts: bool = Field(
        description="first steps of a node's rollouts are children, what follows them rollouts of these; only what is missing "
        "is generated. Needs prior frequency or uniform"
    )


class TreeGateParams(Strict):
    """What the gate behind the search asks of all trees together. The trees are kept where it fails."""

    min_solved: float = Field(ge=0, le=1, description="smallest share of trees with a correct terminal node")
    min_valid: float = Field(
        ge=0,
        le=1,
        description="smallest share with a correct and a wrong one, which a search trace needs (paper: 0.68)",
    )
    min_readable_gold: float = Field(
        ge=0, le=1, description="smallest share of trees whose reference answer the grader can read"
    )


class MctsParams(Strict):
    """The search of paper section 2.2."""

    method: Literal["mcts", "best_of_n"] = Field(
        description="best_of_n: `samples` independent solutions per problem instead, what they share merged into a tree"
    )
    samples: int = Field(ge=1, description="N of best_of_n; mcts does not read it")
    problems: int = Field(ge=1, description="how many of the train problems get a tree (the first ones)")
    k: int = Field(ge=1, description="actions sampled per expansion")
    rollouts: int = Field(ge=1, description="M: completions per new child")
    iterations: int = Field(ge=1, description="simulations per tree")
    max_depth: int = Field(ge=1, description="steps; a deeper node is closed")
    c_puct: float = Field(ge=0, description="weight of the prior against the value in PUCT; larger: more exploration")
    prior: Literal["sequence", "token", "frequency", "uniform"] = Field(
        description="P_LM(a|s) from the step's probability, its per-token geometric mean, its share of the samples, or 1/children"
    )
    temperature: float = Field(gt=0, description="of actions and rollouts")
    step_tokens: int = Field(ge=1, description="longest step, tokens")
    rollout_tokens: int = Field(ge=1, description="longest rollout, tokens")
    shards: int = Field(ge=1, description="files that the trees are written to")
    savings: SavingsParams
    gate: TreeGateParams

    @model_validator(mode="after")
    def _no_logprob_of_reused_steps(self) -> "MctsParams":
        if self.savings.reuse_rollouts and self.prior not in ("frequency", "uniform"):
            raise ValueError(f"savings.reuse_rollouts needs prior frequency or uniform, not {self.prior}")
        return self


class CheckMetrics(Strict):
    """Equalities inside the steps of all trees (`Node.checks`)."""

    true: int = Field(ge=0)
    false: int = Field(ge=0)
    unchecked: int = Field(ge=0, description="not checkable")
    false_steps: float = Field(ge=0, le=1, description="share of steps with a false equality")
    lucky: float | None = Field(
        description="share of correct terminal nodes with a false equality on their path; None: no correct terminal node"
    )


class MctsMetrics(Strict):
    """metrics/mcts.json"""

    trees: int = Field(ge=0)
    solved: float = Field(ge=0, le=1, description="share of trees with a correct terminal node")
    valid: float = Field(
        ge=0, le=1, description="share with a correct and a wrong terminal node: usable for search traces"
    )
    nodes: float = Field(ge=0, description="mean per tree")
    depth: float = Field(ge=0, description="mean of the deepest node per tree")
    tokens: int = Field(ge=0, description="generated")
    requests: int = Field(ge=0)
    tokens_per_valid_tree: float | None = Field(description="None: no valid tree")
    rollout_accuracy: float | None = Field(description="share of correct rollouts; None: none was made")
    checks: CheckMetrics | None = Field(
        default=None, exclude_if=lambda value: value is None, description="absent: the task does not check steps"
    )

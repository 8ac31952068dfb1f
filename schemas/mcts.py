"""Contracts of the mcts stage: its params and metrics."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.strict import Strict


class SavingsParams(Strict):
    """Options that reduce the work per tree. grade_once leaves every tree unchanged; the others change the random draws."""

    grade_once: bool = Field(description="grade equal responses within a tree once; the tree stays the same")
    merge_steps: bool = Field(
        description=(
            "merge sampled steps that reach the same state into one child, with one set of rollouts; false: one child"
            " each"
        )
    )
    reuse_rollouts: bool = Field(
        description=(
            "use the first steps of a node's rollouts as its children and the rest as their rollouts, and generate "
            "only what is missing. Needs prior frequency or uniform"
        )
    )


class TreeGateParams(Strict):
    """Limits of the gate after the search, over all trees together. If the gate fails, the trees are kept."""

    min_solved: float = Field(ge=0, le=1, description="smallest share of trees with a correct terminal node")
    min_valid: float = Field(
        ge=0,
        le=1,
        description=(
            "smallest share of trees with a correct and a wrong terminal node, which a search trace needs (paper: 0.68)"
        ),
    )
    min_readable_gold: float = Field(
        ge=0, le=1, description="smallest share of trees whose reference answer the grader can read"
    )


class MctsParams(Strict):
    """The tree search of paper section 2.2."""

    method: Literal["mcts", "best_of_n"] = Field(
        description=(
            "mcts: tree search; best_of_n: `samples` independent solutions per problem, merged into a tree where they"
            " agree"
        )
    )
    samples: int = Field(ge=1, description="the N of best_of_n; not used by mcts")
    problems: int = Field(ge=1, description="number of train problems to search, from the front")
    num_actions: int = Field(ge=1, description="k: actions sampled per expansion")
    rollouts_per_child: int = Field(ge=1, description="M: completions per new child")
    num_simulations: int = Field(ge=1, description="simulations per tree")
    max_depth: int = Field(ge=1, description="largest depth in steps; deeper nodes are closed")
    c_puct: float = Field(ge=0, description="weight of the prior against the value in PUCT; larger: more exploration")
    prior: Literal["sequence", "token", "frequency", "uniform"] = Field(
        description=(
            "P_LM(a|s) from the step's probability, its geometric mean per token, its share of the samples, or "
            "1/children"
        )
    )
    temperature: float = Field(gt=0, description="sampling temperature of actions and rollouts")
    step_tokens: int = Field(ge=1, description="longest step in tokens")
    rollout_tokens: int = Field(ge=1, description="longest rollout in tokens")
    shards: int = Field(ge=1, description="number of files for the trees")
    savings: SavingsParams
    gate: TreeGateParams

    @model_validator(mode="after")
    def _no_logprob_of_reused_steps(self) -> "MctsParams":
        if self.savings.reuse_rollouts and self.prior not in ("frequency", "uniform"):
            raise ValueError(f"savings.reuse_rollouts requires prior frequency or uniform, not {self.prior}")
        return self


class CheckMetrics(Strict):
    """Counts of the equalities inside the steps of all trees (`Node.checks`)."""

    true: int = Field(ge=0)
    false: int = Field(ge=0)
    unchecked: int = Field(ge=0, description="equalities that cannot be checked")
    false_steps: float = Field(ge=0, le=1, description="share of steps with a false equality")
    lucky: float | None = Field(
        description="share of correct terminal nodes with a false equality on their path; None: no correct terminal node"
    )


class MctsMetrics(Strict):
    """Content of metrics/mcts.json."""

    trees: int = Field(ge=0)
    solved: float = Field(ge=0, le=1, description="share of trees with a correct terminal node")
    valid: float = Field(
        ge=0, le=1, description="share of trees with a correct and a wrong terminal node, usable for search traces"
    )
    nodes: float = Field(ge=0, description="mean number of nodes per tree")
    depth: float = Field(ge=0, description="mean depth of the deepest node")
    tokens: int = Field(ge=0, description="generated tokens")
    requests: int = Field(ge=0)
    tokens_per_valid_tree: float | None = Field(description="None: no tree is valid")
    rollout_accuracy: float | None = Field(description="share of correct rollouts; None: there are none")
    checks: CheckMetrics | None = Field(
        default=None, exclude_if=lambda value: value is None, description="missing if the task does not check steps"
    )

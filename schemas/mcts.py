"""mcts stage: its params and metrics."""

from typing import Literal

from pydantic import Field

from schemas.base import Strict


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
    c_puct: float = Field(ge=0)
    prior: Literal["sequence", "token", "uniform"] = Field(
        description="P_LM(a|s) from the step's probability, its per-token geometric mean, or 1/children"
    )
    temperature: float = Field(gt=0, description="of actions and rollouts")
    step_tokens: int = Field(ge=1, description="longest step, tokens")
    rollout_tokens: int = Field(ge=1, description="longest rollout, tokens")
    trees_in_flight: int = Field(ge=1, description="trees that search at the same time")
    shards: int = Field(ge=1, description="files that the trees are written to")


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

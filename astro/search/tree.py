"""The growing tree (mutable, full precision) and its conversion to a record."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from astro.search.requests import Sample
from schemas.records import NO_PARENT, ROOT, Node, Problem, Rollout, Tree, Verdict

RECORD_DECIMALS = 6
"""Decimals of floats in a record. The search itself never rounds."""


@dataclass(slots=True)
class SearchNode:
    """A state and the step a that led to it. In the paper's notation: N = visits, Q = q, R = reward, P = prior.

    Attributes:
        index: position in the list of nodes; parents come before children.
        parent: index of the parent; -1 for the root.
        steps: texts of the steps from the root to this state; () for the root. Their number is the depth.
        prior: P(a|s) in [0, 1]; the sum over siblings is 1; 1 for the root.
        visits: N(s).
        q: Q(s) in [0, 1].
        reward: R(s) in [0, 1]; 0 for the root, whose own value is never measured.
        terminal: holds a final answer, or is closed (cannot be continued); never expanded.
        answer: final answer of a terminal node; None: none.
        verdict: grade of a terminal node; None: not terminal.
        rollouts: the graded completions that measured `reward`; empty if there are none.
        completions: the texts of those completions, kept only if the node's expansion may reuse them.
        children: indices, in the order in which they were first sampled.
    """

    index: int
    parent: int
    steps: tuple[str, ...]
    prior: float = 1.0
    visits: int = 0
    q: float = 0.0
    reward: float = 0.0
    terminal: bool = False
    answer: str | None = None
    verdict: Verdict | None = None
    rollouts: list[Rollout] = field(default_factory=list)
    completions: list[Sample] = field(default_factory=list)
    children: list[int] = field(default_factory=list)

    def close(self) -> None:
        """Make the node terminal without an answer, because it cannot be continued. R is unchanged."""
        self.terminal = True
        self.answer = None
        self.verdict = "unparseable_prediction"


def new_root() -> SearchNode:
    """The state of the problem itself: N = 0, no step, no reward of its own."""
    return SearchNode(index=ROOT, parent=NO_PARENT, steps=())


def to_record(problem: Problem, nodes: Sequence[SearchNode], *, iterations: int, requests: int, tokens: int) -> Tree:
    """The finished tree as a frozen record, floats rounded to `RECORD_DECIMALS`."""
    return Tree(
        problem=problem,
        nodes=[_node_record(node) for node in nodes],
        iterations=iterations,
        requests=requests,
        tokens=tokens,
    )


def _node_record(node: SearchNode) -> Node:
    return Node(
        index=node.index,
        parent=node.parent,
        depth=len(node.steps),
        text=node.steps[-1] if node.steps else "",
        prior=round(node.prior, RECORD_DECIMALS),
        visits=node.visits,
        q=round(node.q, RECORD_DECIMALS),
        reward=round(node.reward, RECORD_DECIMALS),
        terminal=node.terminal,
        answer=node.answer,
        verdict=node.verdict,
        rollouts=node.rollouts,
    )

"""Figures of a set of trees (metrics/mcts.json)."""

from collections.abc import Iterable
from typing import Any

from schemas.records import Tree


class TreeFigures:
    """Sums over trees, collected one tree at a time, so that memory does not grow with their number."""

    def __init__(self) -> None:
        self.trees = self.solved = self.valid = self.nodes = self.depth = self.tokens = self.requests = 0
        self.rollouts = self.right = 0
        self.checks = CheckFigures()

    def add(self, tree: Tree) -> None:
        """Count one tree."""
        verdicts = {n.verdict for n in tree.nodes if n.terminal}
        self.trees += 1
        self.solved += "correct" in verdicts
        self.valid += {"correct", "wrong"} <= verdicts
        self.nodes += len(tree.nodes)
        self.depth += max(n.depth for n in tree.nodes)
        self.tokens += tree.tokens
        self.requests += tree.requests
        self.rollouts += sum(len(n.rollouts) for n in tree.nodes)
        self.right += sum(r.verdict == "correct" for n in tree.nodes for r in n.rollouts)
        self.checks.add(tree)

    def metrics(self) -> dict[str, Any]:
        """The values of schemas.mcts.MctsMetrics, for at least one tree."""
        return {
            "trees": self.trees,
            "solved": round(self.solved / self.trees, 6),
            "valid": round(self.valid / self.trees, 6),
            "nodes": round(self.nodes / self.trees, 3),
            "depth": round(self.depth / self.trees, 3),
            "tokens": self.tokens,
            "requests": self.requests,
            "tokens_per_valid_tree": round(self.tokens / self.valid, 3) if self.valid else None,
            "rollout_accuracy": round(self.right / self.rollouts, 6) if self.rollouts else None,
            "checks": self.checks.metrics(),
        }


class CheckFigures:
    """Sums over the checks of steps (`schemas.records.StepChecks`), one tree at a time."""

    def __init__(self) -> None:
        self.true = self.false = self.unchecked = self.steps = self.false_steps = self.correct = self.lucky = 0

    def add(self, tree: Tree) -> None:
        """Count one tree; steps without checks are left out."""
        checks = [node.checks for node in tree.nodes if node.checks is not None]
        if not checks:
            return
        self.steps += len(checks)
        self.true += sum(c.true for c in checks)
        self.false += sum(c.false for c in checks)
        self.unchecked += sum(c.unchecked for c in checks)
        self.false_steps += sum(c.false > 0 for c in checks)
        correct = [node.index for node in tree.nodes if node.verdict == "correct"]
        self.correct += len(correct)
        self.lucky += sum(any((c := tree.nodes[i].checks) and c.false for i in tree.path(end)) for end in correct)

    def metrics(self) -> dict[str, float | int | None] | None:
        """The values of schemas.mcts.CheckMetrics; None: no step was checked."""
        if not self.steps:
            return None
        return {
            "true": self.true,
            "false": self.false,
            "unchecked": self.unchecked,
            "false_steps": round(self.false_steps / self.steps, 6),
            "lucky": round(self.lucky / self.correct, 6) if self.correct else None,
        }


def tree_metrics(trees: Iterable[Tree]) -> dict[str, Any]:
    """The values of schemas.mcts.MctsMetrics. `trees` must not be empty; it may be a stream."""
    figures = TreeFigures()
    for tree in trees:
        figures.add(tree)
    return figures.metrics()

"""Figures of a set of trees (metrics/mcts.json)."""

from collections.abc import Sequence

from schemas.records import Tree


def tree_metrics(trees: Sequence[Tree]) -> dict[str, float | int | None]:
    """The values of schemas.mcts.MctsMetrics. `trees` must not be empty."""
    verdicts = [{n.verdict for n in t.nodes if n.terminal} for t in trees]
    solved = sum("correct" in v for v in verdicts)
    valid = sum({"correct", "wrong"} <= v for v in verdicts)
    rollouts = [r.verdict == "correct" for t in trees for n in t.nodes for r in n.rollouts]
    tokens = sum(t.tokens for t in trees)
    return {
        "trees": len(trees),
        "solved": round(solved / len(trees), 6),
        "valid": round(valid / len(trees), 6),
        "nodes": round(sum(len(t.nodes) for t in trees) / len(trees), 3),
        "depth": round(sum(max(n.depth for n in t.nodes) for t in trees) / len(trees), 3),
        "tokens": tokens,
        "requests": sum(t.requests for t in trees),
        "tokens_per_valid_tree": round(tokens / valid, 3) if valid else None,
        "rollout_accuracy": round(sum(rollouts) / len(rollouts), 6) if rollouts else None,
    }

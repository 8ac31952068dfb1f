"""Prepare a search tree for the page's nested, folding list."""

from dataclasses import dataclass

from astro.process import plural
from astro.viz.labels import percent
from schemas.records import ROOT, Node, Tree, Verdict

MAX_NODES = 300
"""Most nodes shown of one tree: the most visited ones and their ancestors."""

MAX_DEPTH = 80
"""Deepest node shown. A nested list is recursive in the template, and nobody reads a deeper one."""

_VERDICT_CLASS: dict[Verdict, str] = {
    "correct": "right",
    "wrong": "wrong",
    "unparseable_prediction": "invalid",
    "unparseable_gold": "invalid",
}


@dataclass(frozen=True)
class TreeNode:
    """One formatted node."""

    text: str
    visits: int
    q: str  # 0..1, two decimals
    q_percent: int  # 0..100, length of the bar
    reward: str
    prior: str
    state: str  # "right", "wrong" or "invalid" for a terminal node, "plain" otherwise
    verdict: str  # verdict and answer of a terminal node; "" otherwise
    rollouts: str  # "3/4 rollouts right"; "" without rollouts
    checks: str  # "equalities: 2 true, 1 false"; "" if none can be checked
    false: bool  # whether one of them is false
    open: bool  # unfolded at first, because it is on the path to the best correct terminal
    children: tuple["TreeNode", ...]


@dataclass(frozen=True)
class TreeView:
    """One formatted search tree."""

    question: str
    problem_id: str
    summary: str
    solved: bool
    omitted: int  # nodes left out because of MAX_NODES and MAX_DEPTH
    root: TreeNode


def view(tree: Tree, *, limit: int = MAX_NODES) -> TreeView:
    """Format a tree. Beyond `limit` nodes the least visited ones are left out, but ancestors of shown nodes stay."""
    kept = _kept(tree, limit)
    opened = {ROOT, *_best_path(tree)}
    children: dict[int, list[TreeNode]] = {index: [] for index in kept}
    root: TreeNode | None = None
    for node in reversed(
        tree.nodes
    ):  # parents precede children, so in reverse order every child is ready before its parent
        if node.index not in kept:
            continue
        shown = _node(node, tree.problem.question, tuple(reversed(children[node.index])), open=node.index in opened)
        if node.index == ROOT:
            root = shown
        else:
            children[node.parent].append(shown)
    assert root is not None
    terminals = [node for node in tree.nodes if node.terminal]
    right = sum(node.verdict == "correct" for node in terminals)
    depth = max(node.depth for node in tree.nodes)
    return TreeView(
        question=tree.problem.question,
        problem_id=tree.problem.id,
        summary=(
            f"{plural(len(tree.nodes), 'node')}, depth {depth}, {plural(tree.iterations, 'iteration')}, "
            f"{right} of {len(terminals)} terminal nodes right, {plural(tree.tokens, 'token')}"
        ),
        solved=right > 0,
        omitted=len(tree.nodes) - len(kept),
        root=root,
    )


def _kept(tree: Tree, limit: int) -> set[int]:
    """Up to `limit` node indices, most visited first. A parent comes before its child in that order."""
    # In a searched tree N(parent) >= N(child). Imported trees may differ, so ancestors are added explicitly.
    kept: set[int] = {ROOT}
    for node in sorted(tree.nodes, key=lambda node: (-node.visits, node.index)):
        if node.depth > MAX_DEPTH:
            continue
        missing = [index for index in tree.path(node.index) if index not in kept]
        if len(kept) + len(missing) <= limit:
            kept.update(missing)
    return kept


def _best_path(tree: Tree) -> list[int]:
    """Path to the correct terminal node with the highest Q (the most visited among equals); [] if none is correct."""
    right = [node for node in tree.nodes if node.verdict == "correct"]
    if not right:
        return []
    return tree.path(max(right, key=lambda node: (node.q, node.visits, -node.index)).index)


def _checks(node: Node) -> str:
    """Summary of the equalities in the step's text."""
    if node.checks is None:
        return ""
    named = (("true", node.checks.true), ("false", node.checks.false), ("not checkable", node.checks.unchecked))
    counted = ", ".join(f"{count} {name}" for name, count in named if count)
    return f"equalities: {counted}" if counted else ""


def _node(node: Node, question: str, children: tuple[TreeNode, ...], *, open: bool) -> TreeNode:
    verdict = ""
    if node.verdict is not None:
        verdict = node.verdict.replace("_", " ") + (f", answer {node.answer}" if node.answer is not None else "")
    right = sum(rollout.verdict == "correct" for rollout in node.rollouts)
    return TreeNode(
        text=question if node.index == ROOT else node.text,
        visits=node.visits,
        q=f"{node.q:.2f}",
        q_percent=int(percent(node.q, digits=0)),
        reward=f"{node.reward:.2f}",
        prior=f"{node.prior:.2f}",
        state="plain" if node.verdict is None else _VERDICT_CLASS[node.verdict],
        verdict=verdict,
        rollouts=f"{right}/{len(node.rollouts)} rollouts right" if node.rollouts else "",
        checks=_checks(node),
        false=node.checks is not None and node.checks.false > 0,
        open=open,
        children=children,
    )

"""Tree -> node sequence with backtracks (paper section 2.3, Algorithm 1).

A walk goes root -> wrong terminal -> back to a common ancestor -> next wrong terminal -> ... -> correct terminal. It is
planned here as node indices; the text comes later (`astro.cloning.verbalize`).
"""

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.records import ROOT, Tree

Jump = Literal["common_ancestor", "root", "random_ancestor"]
BackFrom = Literal["terminal", "dead_end"]
Order = Literal["random", "depth_first"]


@dataclass(frozen=True, slots=True)
class Leg:
    """One stretch of a walk.

    Attributes:
        start: node it goes on from: the root for the first leg, else what the walk went back to.
        nodes: the nodes visited after it; the last one is terminal, or a dead end.
    """

    start: int
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Walk:
    """A node sequence: every leg but the last ends at a wrong terminal or a dead end, the last at the correct one."""

    legs: tuple[Leg, ...]

    @property
    def backtracks(self) -> int:
        """Jumps back, k'."""
        return len(self.legs) - 1


def correct_terminals(tree: Tree) -> list[int]:
    """Correct terminal nodes, best first: by the mean Q along their path (ties: lower index)."""
    found = [n.index for n in tree.nodes if n.terminal and n.verdict == "correct"]
    return sorted(found, key=lambda i: (-path_value(tree, i), i))


def path_value(tree: Tree, terminal: int) -> float:
    """Mean Q of the nodes on the path to `terminal`."""
    path = tree.path(terminal)
    return sum(tree.nodes[i].q for i in path) / len(path)


def lowest_value(tree: Tree, terminal: int) -> float:
    """Lowest Q on the path: a solution is as sound as its weakest step (filter `value`)."""
    return min(tree.nodes[i].q for i in tree.path(terminal))


def wrong_terminals(
    tree: Tree,
    *,
    key: Callable[[str], Hashable] = lambda answer: answer,
    usable: Callable[[int], bool] = lambda node: True,
) -> list[int]:
    """Terminal nodes with a wrong answer, one per answer: the k' of Algorithm 1 must differ from each other.

    Args:
        key: equal for answers that say the same.
        usable: nodes to look at.
    """
    by_answer: dict[Hashable, int] = {}
    for node in tree.nodes:
        if node.terminal and node.verdict == "wrong" and node.answer is not None and usable(node.index):
            by_answer.setdefault(key(node.answer), node.index)
    return list(by_answer.values())


def common_ancestor(tree: Tree, first: int, second: int) -> int:
    """Deepest node on both paths (possibly the root)."""
    shared = ROOT
    for a, b in zip(tree.path(first), tree.path(second), strict=False):
        if a != b:
            break
        shared = a
    return shared


def in_order(tree: Tree, wrong: Sequence[int], *, correct: int, order: Order, rng: random.Random) -> list[int]:
    """The order in which a walk visits `wrong`.

    depth_first: as a search would: subtree by subtree, in random order, and never back to one that was left. The subtrees
    on the path to `correct` come last, so that no step is left that the solution goes through.
    random: as they come (they were drawn at random).
    """
    if order == "random":
        return list(wrong)
    ahead = set(tree.path(correct))
    rank = {i: rng.random() for i in sorted({i for terminal in wrong for i in tree.path(terminal)})}
    return sorted(wrong, key=lambda terminal: [(i in ahead, rank[i]) for i in tree.path(terminal)])


def dead_ends(tree: Tree, wrong: Sequence[int]) -> list[int]:
    """For each wrong terminal the first node on its path below which the tree holds no correct terminal; each node once.

    What a chain could give up without going to the end, had it the tree's knowledge (a reviewer's question: the paper only
    goes back from terminal nodes).
    """
    alive = {i for correct in correct_terminals(tree) for i in tree.path(correct)}
    ends = [next(i for i in tree.path(terminal) if i not in alive) for terminal in wrong]
    return list(dict.fromkeys(ends))


def plan_walk(
    tree: Tree,
    *,
    correct: int,
    wrong: Sequence[int],
    jump: Jump,
    rng: random.Random,
    back_from: BackFrom = "terminal",
) -> Walk:
    """The walk that visits `wrong` in order and ends at `correct`.

    `jump` chooses where it goes back to before each next leg: the deepest common ancestor with the next terminal (the
    paper), the root, or a random one of their common ancestors. With `back_from` "dead_end" a wrong branch is left at
    its node of `dead_ends`; two wrong terminals below one such node are one visit.
    """
    visited = dead_ends(tree, wrong) if back_from == "dead_end" else wrong
    targets = [*visited, correct]
    legs = []
    for position, target in enumerate(targets):
        start = ROOT
        if position:
            deepest = common_ancestor(tree, targets[position - 1], target)
            shared = [ROOT, *tree.path(deepest)]
            start = {"common_ancestor": deepest, "root": ROOT}.get(jump, ROOT)
            if jump == "random_ancestor":
                start = rng.choice(shared)
        path = tree.path(target)
        legs.append(Leg(start, tuple(path[path.index(start) + 1 :] if start != ROOT else path)))
    return Walk(tuple(legs))

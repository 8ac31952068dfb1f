"""Plan a node sequence with returns through a tree (paper section 2.3, Algorithm 1).

A walk goes root -> wrong terminal -> back to a common ancestor -> next wrong terminal -> ... -> correct terminal. This module
plans it as node indices; `astro.cloning.verbalize` adds the text.
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
    """One stretch of a walk without a jump.

    Attributes:
        start: the node before it: the root for the first leg, else the target of the jump.
        nodes: the nodes that it visits; the last one is a terminal or a dead end.
    """

    start: int
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Walk:
    """A node sequence. The last leg ends at the correct terminal, every other leg at a wrong terminal or a dead end."""

    legs: tuple[Leg, ...]

    @property
    def backtracks(self) -> int:
        """Number of jumps back, k'."""
        return len(self.legs) - 1


def correct_terminals(tree: Tree) -> list[int]:
    """Correct terminal nodes, ordered by the mean Q along their path, best first (ties: lower index first)."""
    found = [n.index for n in tree.nodes if n.terminal and n.verdict == "correct"]
    return sorted(found, key=lambda i: (-path_value(tree, i), i))


def path_value(tree: Tree, terminal: int) -> float:
    """Mean Q of the nodes on the path to `terminal`."""
    path = tree.path(terminal)
    return sum(tree.nodes[i].q for i in path) / len(path)


def lowest_value(tree: Tree, terminal: int) -> float:
    """Lowest Q on the path, because a solution is only as sound as its weakest step (filter `value`)."""
    return min(tree.nodes[i].q for i in tree.path(terminal))


def wrong_terminals(
    tree: Tree,
    *,
    key: Callable[[str], Hashable] = lambda answer: answer,
    usable: Callable[[int], bool] = lambda node: True,
) -> list[int]:
    """Terminal nodes with a wrong answer, one per answer, because the k' of Algorithm 1 must differ from each other.

    Args:
        key: normal form of an answer.
        usable: the nodes to consider.
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

    depth_first: subtree by subtree as in a search, in random order, without returning to a subtree that was left. The
    subtrees on the path to `correct` come last, so that no step of the solution is left for good.
    random: unchanged, because they were drawn at random.
    """
    if order == "random":
        return list(wrong)
    ahead = set(tree.path(correct))
    rank = {i: rng.random() for i in sorted({i for terminal in wrong for i in tree.path(terminal)})}
    return sorted(wrong, key=lambda terminal: [(i in ahead, rank[i]) for i in tree.path(terminal)])


def dead_ends(tree: Tree, wrong: Sequence[int]) -> list[int]:
    """For each wrong terminal the first node on its path below which no correct terminal is known; each node once.

    A chain with the tree's knowledge could give up at this node. (Reviewers asked about it; the paper only goes back
    from terminal nodes.)
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
    """Plan the walk that visits `wrong` in order and ends at `correct`.

    `jump` selects the target of each return: the deepest common ancestor with the next terminal (the paper), the root,
    or a random common ancestor. With `back_from` "dead_end" a wrong branch is left at its node of `dead_ends`; two
    wrong terminals below the same dead end count as one visit.
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

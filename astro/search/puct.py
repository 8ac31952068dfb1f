"""Selection and back-propagation: the two formulas of paper section 2.2."""

import math
from collections.abc import Sequence

from astro.search.tree import SearchNode
from schemas.records import ROOT


def puct(*, q: float, prior: float, parent_visits: int, visits: int, c_puct: float) -> float:
    """`Q(s,a) + c_puct * P(a|s) * sqrt(N(s)) / (1 + N(s,a))`: the value of an action plus an exploration bonus.

    `c_puct` weighs exploration; 0 uses Q alone.
    """
    return q + c_puct * prior * math.sqrt(parent_visits) / (1 + visits)


def best_child(nodes: Sequence[SearchNode], node: SearchNode, *, c_puct: float) -> SearchNode:
    """The child of `node` with the highest PUCT score; among equal scores the one with the lowest index."""
    best, best_score = None, -math.inf
    for index in node.children:
        child = nodes[index]
        score = puct(q=child.q, prior=child.prior, parent_visits=node.visits, visits=child.visits, c_puct=c_puct)
        if score > best_score:
            best, best_score = child, score
    assert best is not None, "best_child is asked only of nodes with children"
    return best


def select(nodes: Sequence[SearchNode], *, c_puct: float) -> list[int]:
    """Follow the best child from the root down to a node without children: an unexpanded leaf or a terminal node.

    Returns:
        Indices of the path, root first, selected node last.
    """
    node = nodes[ROOT]
    path = [ROOT]
    while node.children:
        node = best_child(nodes, node, c_puct=c_puct)
        path.append(node.index)
    return path


def backpropagate(nodes: Sequence[SearchNode], path: Sequence[int]) -> None:
    """Update N and Q in place, from the selected node (last of `path`) up to the root (first).

    `N(s) += 1`, `Q(s) = (sum_i Q(s_i) N(s_i) + R(s)) / (sum_i N(s_i) + 1)` over the children s_i of s.
    The root's own value is never measured, so its R and the corresponding 1 are left out.
    """
    for index in reversed(path):
        node = nodes[index]
        node.visits += 1
        weighted, visits = (0.0, 0) if index == ROOT else (node.reward, 1)
        for child_index in node.children:
            child = nodes[child_index]
            weighted += child.q * child.visits
            visits += child.visits
        node.q = weighted / visits if visits else 0.0

"""One test per ordering rule of selection, and back-propagation on a drawn tree."""

import pytest

from astro.search.puct import backpropagate, best_child, puct, select
from astro.search.tree import SearchNode, new_root


def family(*children: dict, visits: int = 4) -> list[SearchNode]:
    """A root with these children; what a child does not say is N = 1, Q = 0, P = 0.5."""
    root = new_root()
    root.visits = visits
    nodes = [root]
    for i, figures in enumerate(children, start=1):
        nodes.append(SearchNode(index=i, parent=0, steps=(str(i),), **({"visits": 1, "prior": 0.5} | figures)))
        root.children.append(i)
    return nodes


def chosen(nodes: list[SearchNode], c_puct: float) -> int:
    return best_child(nodes, nodes[0], c_puct=c_puct).index


def test_formula():
    # Q + c P sqrt(N) / (1 + n) = 0.25 + 2 * 0.5 * 3 / 3
    assert puct(q=0.25, prior=0.5, parent_visits=9, visits=2, c_puct=2.0) == pytest.approx(1.25)


def test_a_tie_goes_to_the_lower_index():
    assert chosen(family({"q": 0.1}, {"q": 0.5}, {"q": 0.5}), 1.0) == 2


def test_at_c_puct_0_value_alone_decides():
    assert chosen(family({"q": 0.4, "prior": 0.99, "visits": 0}, {"q": 0.5, "prior": 0.01, "visits": 90}), 0.0) == 2


def test_of_equal_values_and_visits_the_likelier_step_wins():
    assert chosen(family({"prior": 0.3}, {"prior": 0.7}), 1.0) == 2


def test_of_equal_values_and_priors_the_less_visited_wins():
    assert chosen(family({"visits": 3}, {"visits": 2}), 1.0) == 2


def test_among_unvisited_children_the_prior_outweighs_a_small_difference_in_value():
    children = [{"q": 0.3, "prior": 0.1, "visits": 0}, {"q": 0.0, "prior": 0.9, "visits": 0}]
    assert chosen(family(*children, visits=1), 1.0) == 2  # 0.3 + 0.1 against 0.0 + 0.9


def test_value_outweighs_the_prior_once_visits_have_used_it_up():
    children = [{"q": 0.3, "prior": 0.1, "visits": 10}, {"q": 0.0, "prior": 0.9, "visits": 10}]
    assert chosen(family(*children, visits=4), 1.0) == 1  # 0.3 + 0.02 against 0.0 + 0.16


def test_exploration_grows_with_the_visits_of_the_parent():
    children = [{"q": 0.5, "visits": 10}, {"q": 0.0, "visits": 1}]
    assert chosen(family(*children, visits=1), 1.0) == 1  # 0.55 against 0.25
    assert chosen(family(*children, visits=100), 1.0) == 2  # 0.95 against 2.5


def test_selection_goes_down_to_a_node_without_children():
    nodes = family({"q": 0.2}, {"q": 0.9})
    nodes.append(SearchNode(index=3, parent=2, steps=("2", "3"), visits=1, terminal=True))
    nodes[2].children.append(3)
    assert select(nodes, c_puct=1.0) == [0, 2, 3]
    assert select([new_root()], c_puct=1.0) == [0]  # an unexpanded root is its own leaf


def test_backpropagation_updates_the_path_and_nothing_else():
    nodes = family({"q": 0.2, "reward": 0.2}, {"q": 0.5, "reward": 0.5}, visits=1)
    nodes.append(SearchNode(index=3, parent=2, steps=("2", "3"), visits=1, q=1.0, reward=1.0))
    nodes[2].children.append(3)
    backpropagate(nodes, [0, 2])
    assert [n.visits for n in nodes] == [2, 1, 2, 1]
    # Q(2) = (1 * 1 + R = 0.5) / (1 + 1); Q(root) = (0.2 * 1 + 0.75 * 2) / 3, its own R left out
    assert [n.q for n in nodes] == pytest.approx([1.7 / 3, 0.2, 0.75, 1.0])


def test_backpropagation_from_a_terminal_node_keeps_its_value():
    nodes = family({"q": 1.0, "reward": 1.0, "terminal": True}, visits=1)
    backpropagate(nodes, [0, 1])
    assert [(n.visits, n.q) for n in nodes] == [(2, 1.0), (2, 1.0)]


def test_a_root_without_children_is_worth_nothing():
    nodes = [new_root()]
    backpropagate(nodes, [0])
    assert (nodes[0].visits, nodes[0].q) == (1, 0.0)

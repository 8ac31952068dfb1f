"""What the page shows of a search tree."""

import pytest

from astro.viz import tree_view
from schemas.records import StepChecks
from tests.viz.example import make_problem, make_tree


def walk(node):
    yield node
    for child in node.children:
        yield from walk(child)


def hard_tree():
    return make_tree(make_problem("p", 24, [3, 5, 7, 9]), seed=3)


def test_every_node_stands_under_its_parent_in_order():
    tree = hard_tree()
    shown = tree_view.view(tree)
    assert shown.omitted == 0
    assert shown.root.text == tree.problem.question

    def check(view, index):
        children = [node for node in tree.nodes if node.parent == index]
        assert [child.text for child in view.children] == [node.text for node in children]
        for child, node in zip(view.children, children, strict=True):
            assert (child.visits, child.q, child.reward) == (node.visits, f"{node.q:.2f}", f"{node.reward:.2f}")
            check(child, node.index)

    check(shown.root, 0)


def test_the_path_to_the_best_correct_end_is_open_and_no_other():
    tree = hard_tree()
    right = [node for node in tree.nodes if node.verdict == "correct"]
    assert right  # the fixture is solved
    shown = [node for node in walk(tree_view.view(tree).root) if node.open]
    assert shown[-1].state == "right"
    assert len(shown) == max(right, key=lambda node: (node.q, node.visits, -node.index)).depth + 1


def test_an_unsolved_tree_opens_its_root_only():
    tree = make_tree(make_problem("p", 24, [4, 6, 8]), seed=7)
    view = tree_view.view(tree)
    assert not view.solved
    assert [node.open for node in walk(view.root)].count(True) == 1


def test_the_least_visited_nodes_are_left_out():
    tree = hard_tree()
    view = tree_view.view(tree, limit=12)
    shown = list(walk(view.root))
    assert len(shown) == 12
    assert view.omitted == len(tree.nodes) - 12
    assert min(node.visits for node in shown) >= sorted((node.visits for node in tree.nodes), reverse=True)[11]


CHECKS = [
    # checks of a node, what is shown, whether it stands out
    (None, "", False),
    (StepChecks(true=0, false=0, unchecked=0), "", False),
    (StepChecks(true=2, false=0, unchecked=1), "equalities: 2 true, 1 not checkable", False),
    (StepChecks(true=1, false=1, unchecked=0), "equalities: 1 true, 1 false", True),
]


@pytest.mark.parametrize(("checks", "shown", "false"), CHECKS)
def test_checks_of_a_step_are_shown(checks, shown, false):
    tree = hard_tree()
    nodes = [n.model_copy(update={"checks": checks}) if n.index == 1 else n for n in tree.nodes]
    node = tree_view.view(tree.model_copy(update={"nodes": nodes})).root.children[0]
    assert (node.checks, node.false) == (shown, false)

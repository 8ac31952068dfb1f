"""Independent solutions as a tree: what is merged, what is dropped, what the figures say."""

import pytest

from astro.search import Sample, Simulate, sample_tree
from astro.validation import check_trees
from tests.search.world import World, judged

WORLD = World(seed=0, goal=5)


def sample(text: str, *, tokens: int = 4, finished: bool = True) -> Sample:
    return Sample(text=text, logprob=0.0, tokens=tokens, finished=finished)


def grow(*texts, max_depth: int = 5):
    """The tree of these samples; a text in brackets is cut by the length limit."""
    drawn = [sample(t.strip("[]"), finished=not t.startswith("[")) for t in texts]
    run = sample_tree(
        WORLD.problem,
        samples=len(drawn),
        max_depth=max_depth,
        seed=1,
        split=lambda text: text.split("\n"),
        is_terminal=WORLD.is_terminal,
        key=WORLD.key,
    )
    run = judged(run, WORLD.judge)
    (request,) = next(run)
    assert (request.steps, request.n) == ((), len(drawn))
    assert isinstance(request, Simulate)
    with pytest.raises(StopIteration) as stop:
        run.send([drawn])
    return stop.value.value


def test_common_beginnings_are_one_path():
    tree = grow("+2\n+3\n=5", "+ 2\n+1\n=3", "+2\n+3\n=5", "+3\n=3")
    shown = [(n.parent, n.text, n.visits, n.prior, n.q, n.verdict) for n in tree.nodes]
    assert shown == [
        (-1, "", 4, 1.0, 0.5, None),
        (0, "+2", 3, 0.75, round(2 / 3, 6), None),
        (1, "+3", 2, round(2 / 3, 6), 1.0, None),
        (2, "=5", 2, 1.0, 1.0, "correct"),
        (1, "+1", 1, round(1 / 3, 6), 0.0, None),
        (4, "=3", 1, 1.0, 0.0, "wrong"),
        (0, "+3", 1, 0.25, 0.0, None),
        (6, "=3", 1, 1.0, 0.0, "wrong"),
    ]
    assert (tree.iterations, tree.requests, tree.tokens) == (4, 1, 16)
    assert [len(n.rollouts) for n in tree.nodes] == [0, 3, 2, 0, 1, 0, 1, 0]
    assert check_trees([tree], searched=False).failures == []
    assert check_trees([tree]).failures != []  # N and Q of a search they are not


def test_what_is_no_solution_costs_tokens_and_leaves_no_node():
    tree = grow("[+2\n+3\n=5]", "+2\n\n=2", "+2\n+3", "+1\n+1\n+1\n+1\n+1\n=5", "+2\n=5\n+1")
    assert [n.text for n in tree.nodes] == ["", "+2", "=5"]  # what follows an answer is not read
    assert (tree.tokens, tree.nodes[2].verdict) == (20, "wrong")


def test_without_a_solution_the_root_is_closed():
    tree = grow("um", "[=5]")
    assert [(n.terminal, n.verdict) for n in tree.nodes] == [(True, "unparseable_prediction")]


def test_answers_that_do_not_fit_are_refused():
    run = sample_tree(
        WORLD.problem,
        samples=2,
        max_depth=3,
        seed=1,
        split=str.splitlines,
        is_terminal=WORLD.is_terminal,
    )
    next(run)
    with pytest.raises(ValueError, match="expected 2 samples"):
        run.send([[sample("=5")]])

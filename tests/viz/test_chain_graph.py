"""Layout and drawing of chains, and which line of the text belongs to which step."""

import re

import pytest

from astro.viz import chain_graph
from schemas.records import Chain, ChainNode
from tests.viz.example import make_completion, make_problem


def node(text: str = "s", parent: int = -1, *, valid: bool = True, right: bool | None = None, claim=None) -> ChainNode:
    return ChainNode(text=text, parent=parent, valid=valid, ends=right is not None, right=right, claim=claim)


def chain(parents: list[int], back_edges: list[tuple[int, int]]) -> Chain:
    return Chain(nodes=[node(parent=p) for p in parents], back_edges=back_edges, attempts=[], repeats=0, unparsed=0)


LAYOUTS = [
    # parents, back edges, expected (depth, row) of each step
    ([], [], []),  # nothing was read
    ([-1, 0, 1], [], [(1, 0), (2, 0), (3, 0)]),  # straight on
    ([-1, 0, -1, 2], [(1, -1)], [(1, 0), (2, 0), (1, 1), (2, 1)]),  # back to the problem: a new row
    ([-1, 0, 1, 0, 3], [(2, 0)], [(1, 0), (2, 0), (3, 0), (2, 1), (3, 1)]),  # back to a step: indented new row
    ([-1, 0, 0, 1], [(1, 0), (2, 1)], [(1, 0), (2, 0), (2, 1), (3, 0)]),  # forward again from the first branch's end
    ([-1, 0], [(1, 1)], [(1, 0), (2, 0)]),  # a jump to where it stands
]


@pytest.mark.parametrize(("parents", "back_edges", "places"), LAYOUTS)
def test_layout(parents, back_edges, places):
    plan = chain_graph.layout(chain(parents, back_edges))
    x0, y0 = plan.problem
    columns, rows = chain_graph._COLUMN, chain_graph._ROW
    assert [((x - x0) / columns, (y - y0) / rows) for x, y in plan.nodes] == places
    assert len(set(plan.nodes)) == len(plan.nodes)  # no two steps on one spot
    assert all(0 < x < plan.width and 0 < y < plan.height for x, y in plan.nodes)


@pytest.mark.parametrize(("parents", "back_edges", "places"), LAYOUTS)
def test_one_arrow_per_back_edge(parents, back_edges, places):
    svg = chain_graph.draw(chain(parents, back_edges), problem="p")
    assert svg.count('<g class="back">') == svg.count("<polygon") == len(back_edges)
    assert svg.count('class="edge"') == len(parents)


def test_arrows_lead_from_the_step_to_its_target():
    graph = chain([-1, 0, 1, 0, 3, -1, 5], [(2, 0), (4, -1)])
    plan, svg = chain_graph.layout(graph), chain_graph.draw(graph, problem="p")
    found = re.findall(
        r'<g class="back"><title>.*?</title><path d="M([\d.]+) ([\d.]+).*?<polygon points="([\d.]+),([\d.]+)', svg
    )
    for (x1, y1, x0, y0), (source, target) in zip(found, graph.back_edges, strict=True):
        assert (float(x1), float(y1)) == (plan.nodes[source][0], plan.nodes[source][1] + chain_graph._RADIUS)
        assert abs(float(x0) - plan.at(target)[0]) < chain_graph._RADIUS
        assert abs(float(y0) - plan.at(target)[1]) < 2 * chain_graph._RADIUS


@pytest.mark.parametrize(
    ("step", "state"),
    [
        (node(), "plain"),  # legal, goes on
        (node(right=True), "right"),
        (node(right=False), "wrong"),
        (node(valid=False), "invalid"),
        (node(valid=False, right=True), "invalid"),  # a right result by an illegal step is not right
    ],
)
def test_state(step, state):
    graph = Chain(nodes=[step], back_edges=[], attempts=[], repeats=0, unparsed=0)
    assert chain_graph.state(step) == state
    assert f'class="node {state}"' in chain_graph.draw(graph, problem="p")


@pytest.mark.parametrize(
    ("right", "claim", "false"),
    [(True, True, False), (False, False, False), (True, False, True), (False, True, True), (False, None, False)],
)
def test_false_claim(right, claim, false):
    assert chain_graph.false_claim(node(right=right, claim=claim)) is false


@pytest.mark.parametrize(
    ("parents", "back_edges"),
    [
        ([0], []),
        ([1, -1], []),
        ([-1], [(1, -1)]),
        ([-1], [(0, 1)]),
    ],  # itself, a later step, no such source, no such target
)
def test_impossible_graphs_are_refused(parents, back_edges):
    with pytest.raises(ValueError, match=r"expected an earlier one|names no step"):
        chain_graph.layout(chain(parents, back_edges))


def test_a_long_chain_is_cut_and_says_so():
    count = 40
    graph = chain([i - 1 if i % 4 else -1 for i in range(count)], [(i, -1) for i in range(3, count - 1, 4)])
    svg = chain_graph.draw(graph, problem="p", limit=10)
    assert svg.count('class="node plain"') == 10
    assert svg.count('class="back"') == 2
    assert "the first 10 drawn" in svg


def test_lines_mark_every_step_once_and_in_order():
    problem = make_problem("p", 24, [3, 5, 7, 9])
    done = make_completion(problem, "grpo", seed=11, attempts=5, solve=True)
    lines = chain_graph.lines(done.text, done.chain)
    assert [line.number for line in lines if line.number] == list(range(1, len(done.chain.nodes) + 1))
    assert "\n".join(line.text for line in lines) + "\n" == done.text
    for line in lines:
        if line.number:
            assert line.text.startswith(done.chain.nodes[line.number - 1].text)
    assert lines[-1].state == "right"


def test_a_repeated_attempt_is_marked_and_a_restated_path_is_not():
    first, end = node("a"), node("b", 0, right=False)
    graph = Chain(nodes=[first, end], back_edges=[(1, 0)], attempts=[1, 1], repeats=1, unparsed=0)
    lines = chain_graph.lines("a\nb\nback to\na\nb", graph)
    assert [line.number for line in lines] == [1, 2, None, None, 2]
    assert [line.repeated for line in lines] == [False, False, False, False, True]


def test_a_reworded_step_marks_nothing_and_hides_no_other():
    graph = Chain(
        nodes=[node("a"), node("not there", 0), node("c", 1)], back_edges=[], attempts=[], repeats=0, unparsed=0
    )
    assert [line.number for line in chain_graph.lines("a\nb\nc", graph)] == [1, None, 3]

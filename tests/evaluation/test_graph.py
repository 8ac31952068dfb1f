"""Chains as graphs. The main example: a problem with two branches, a jump to the first step and a jump to the start."""

import pytest

from astro.evaluation.graph import PROBLEM, children, depths, edges, path_to, steps_to, to_dot


@pytest.fixture
def walk(chain):
    """p -> a -> b (wrong), back to a -> c (wrong), back to p -> d (right)."""
    return chain(("a", -1), ("b", 0, "W"), ("c", 0, "W"), ("d", -1, "R"), back=[(1, 0), (2, -1)])


def test_edges_in_the_order_they_are_written(walk):
    assert edges(walk) == [
        (PROBLEM, 0, "forward"),
        (0, 1, "forward"),
        (1, 0, "back"),
        (0, 2, "forward"),
        (2, PROBLEM, "back"),
        (PROBLEM, 3, "forward"),
    ]


@pytest.mark.parametrize(
    ("back", "expected"),
    [
        ([(0, 0)], "p0 00 01"),  # a jump that restates the way to where it left: before the next step
        ([(1, 0), (1, 0)], "p0 01 10 10"),  # attempt 1 made again: its end is left twice, no new step between
        ([(1, -1)], "p0 01 1p"),  # the chain ends with a jump
    ],
)
def test_edges_at_the_end(chain, back, expected):
    found = edges(chain(("a", -1), ("b", 0, "W"), back=back))
    assert " ".join(f"{_letter(e.source)}{_letter(e.target)}" for e in found) == expected


def test_a_jump_after_a_repeated_attempt_stands_where_it_was_made(chain):
    """a b | back to a: c | back to a: b again | back to p: d. The second jump from b comes after c."""
    repeated = chain(
        ("a", -1), ("b", 0, "W"), ("c", 0, "W"), ("d", -1, "R"), back=[(1, 0), (2, 0), (1, -1)], attempts=[1, 2, 1, 3]
    )
    found = " ".join(f"{_letter(e.source)}{_letter(e.target)}" for e in edges(repeated))
    assert found == "p0 01 10 02 20 1p p3"


def _letter(index):
    return "p" if index == PROBLEM else str(index)


def test_paths_depths_children(walk):
    assert [path_to(walk, i) for i in (PROBLEM, 0, 1, 2, 3)] == [[], [0], [0, 1], [0, 2], [3]]
    assert steps_to(walk, 2) == ("a", "c")
    assert depths(walk) == [1, 2, 2, 1]
    assert children(walk) == {PROBLEM: [0, 3], 0: [1, 2]}


def test_an_empty_chain(chain):
    empty = chain()
    assert (edges(empty), depths(empty), children(empty)) == ([], [], {})
    assert to_dot(empty).count("->") == 0


def test_dot(chain):
    text = to_dot(
        chain(("a", -1, "!"), ('say "b"\\', 0, "W"), ("c\nd", -1, "R"), back=[(1, -1)]), title="make 3 from 1 2"
    )
    assert text.startswith("digraph chain {\n")
    assert text.endswith("}\n")
    assert 'problem [shape=ellipse, label="make 3 from 1 2"];' in text
    assert 'n0 [label="a", color="#607d8b", style=dashed, penwidth=1];' in text  # illegal, ends nothing
    assert r'n1 [label="say \"b\"\\", color="#c62828"' in text  # quotes and backslashes of model text are escaped
    assert r'n2 [label="c\nd", color="#2e7d32"' in text  # a line break is Graphviz's, not the file's
    assert "  n0 -> n1;" in text
    assert '  n1 -> problem [style=dashed, color="#ef6c00", constraint=false, label="1"];' in text
    assert "  problem -> n2;" in text


@pytest.mark.parametrize(
    ("rows", "back", "message"),
    [
        ([("a", 0)], [], "step 0 continues step 0"),  # its own parent: walking up would not end
        ([("a", 1), ("b", 0)], [], "step 0 continues step 1"),  # two steps that continue each other
        ([("a", -1)], [(0, 4)], r"back edge \(0, 4\): no step 4"),  # a jump to a step that is not there
        ([("a", -1)], [(-2, 0)], "no step -2"),  # below the problem
    ],
)
def test_broken_chains_are_refused(chain, rows, back, message):
    broken = chain(*rows, back=back)
    with pytest.raises(ValueError, match=message):
        edges(broken)


def test_paths_of_unknown_steps_are_refused(walk):
    for index in (4, -2):
        with pytest.raises(ValueError, match=f"no step {index} in a chain of 4"):
            path_to(walk, index)

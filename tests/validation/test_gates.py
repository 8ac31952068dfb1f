"""Each gate passes what the real search and cloning make, and names the row that breaks a rule."""

import json
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from astro.validation import GateError, GateResult, check_problems, check_traces, check_trees, require
from astro.validation.record_tables import tree_rows
from schemas.records import Problem, Segment, Trace, Tree
from tests.validation import world
from tests.validation.world import paired

GOLDEN = Path(__file__).resolve().parents[1] / "data"


@pytest.fixture(scope="module")
def trees() -> list[Tree]:
    return [world.grow(i) for i in range(40)]


@pytest.fixture(scope="module")
def traces(trees: list[Tree]) -> list[Trace]:
    return world.traces(trees)


def failed(result: GateResult) -> set[str]:
    """`table.column` of every failed expectation."""
    return {line.split(":")[0] for line in result.failures}


# ---------------------------------------------------------------------------------------------------------- problems

Sets = dict[str, list[Problem]]


def without(name: str) -> Callable[[Sets], Sets]:
    return lambda sets: {k: v for k, v in sets.items() if k != name}


def emptied(name: str) -> Callable[[Sets], Sets]:
    return lambda sets: {**sets, name: []}


def replaced(name: str, **changes: Any) -> Callable[[Sets], Sets]:
    """The first problem of a set, changed."""
    return lambda sets: {**sets, name: [sets[name][0].model_copy(update=changes), *sets[name][1:]]}


BAD_PROBLEMS = [
    # an empty set: map expectations would pass it
    (emptied("rl"), {"sets.size"}, "rl (size 0)"),
    # no set of that name at all
    (without("rl"), {"sets.group"}, "['rl']"),
    # an id that stands in two sets
    (replaced("rl", id="train-3"), {"problems.id"}, "train-3"),
    # a train problem that is an eval problem, but for case and spaces
    (
        replaced("train", question="MAKE  3 in eval_four"),
        {"problems.elsewhere"},
        "train-0 (elsewhere eval_four:eval_four-3)",
    ),
    # an rl problem that is a train problem
    (replaced("rl", question="make 5 in train"), {"problems.elsewhere"}, "rl-0 (elsewhere train:train-5)"),
    # the same problem twice in one set
    (replaced("train", question="make 7 in train"), {"problems.set+question"}, "train-0"),
    # a problem that no path solves
    (replaced("eval_three", chance=0.0), {"problems.chance"}, "eval_three-0 (chance 0.0)"),
]


@pytest.mark.parametrize(("spoil", "where", "named"), BAD_PROBLEMS)
def test_bad_problems_are_named(spoil: Callable[[Sets], Sets], where: set[str], named: str) -> None:
    result = check_problems(spoil(world.problem_sets()), levels={3: 0.5, 4: 0.5})
    assert failed(result) == where
    assert named in "\n".join(result.failures)


def test_good_problems_pass() -> None:
    sets = world.problem_sets()
    assert check_problems(sets, levels={3: 0.5, 4: 0.5}).failures == []
    # chance may be unknown; eval sets may share problems
    shared = replaced("eval_three", question="make 3 in eval_four", chance=None)(sets)
    assert check_problems(shared).failures == []


def test_level_mix() -> None:
    sets = world.problem_sets()
    assert check_problems(sets, levels={3: 0.6, 4: 0.4}).success  # within tolerance
    result = check_problems(sets, levels={3: 0.99, 4: 0.01})
    assert failed(result) == {"sets.level_excess"}
    assert "train (level_excess" in result.failures[0]
    assert "eval" not in result.failures[0].split("failing rows")[1]  # eval sets have one level each
    assert not check_problems(sets, levels={3: 1.0}).success  # a level that was not asked for counts too


def test_a_task_can_say_when_problems_are_the_same() -> None:
    sets = replaced("train", question="in eval_four make 3")(world.problem_sets())
    assert check_problems(sets).success
    result = check_problems(sets, key=lambda p: " ".join(sorted(p.question.split())))
    assert failed(result) == {"problems.elsewhere"}


# ------------------------------------------------------------------------------------------------------------- trees


def test_trees_of_the_search_pass(trees: list[Tree]) -> None:
    assert check_trees(trees).failures == []
    rows = tree_rows(trees)
    assert 0.3 < rows["valid"].mean() < 1  # both kinds are among them
    assert rows["nodes"].max() > 15


@pytest.mark.parametrize("name", ["tree_solved.json", "tree_dead_ends.json", "tree_shallow.json"])
def test_golden_trees_keep_the_invariants(name: str) -> None:
    content = json.loads((GOLDEN / name).read_text())
    tree = Tree.model_validate(content.get("tree", content))
    assert check_trees([tree], min_solved=0, min_valid=0, min_readable_gold=0).failures == []


def with_node(position: Callable[[Tree], int], **changes: Any) -> Callable[[Tree], Tree]:
    def change(tree: Tree) -> Tree:
        at = position(tree)
        nodes = [n.model_copy(update=changes) if n.index == at else n for n in tree.nodes]
        return tree.model_copy(update={"nodes": nodes})

    return change


def terminal(tree: Tree) -> int:
    return next(n.index for n in tree.nodes if n.terminal and n.verdict == "correct")


def inner(tree: Tree) -> int:
    """A node with children and rollouts."""
    parents = {n.parent for n in tree.nodes}
    return next(n.index for n in tree.nodes[1:] if n.index in parents and n.rollouts)


BAD_TREES = [
    # priors of siblings no longer add up to 1
    (with_node(inner, prior=0.0001), {"trees.prior_error"}),
    # a simulation that was counted on no path
    (with_node(lambda tree: 0, visits=3), {"trees.visit_error"}),
    # Q that does not follow from the children
    (with_node(lambda tree: 0, q=0.987), {"trees.q_error"}),
    # R that the rollouts did not measure (Q then does not follow from it either)
    (with_node(inner, reward=0.123), {"trees.reward_error", "trees.q_error"}),
    # a terminal node without a grade (and R = 1 that no grade explains)
    (with_node(terminal, verdict=None), {"trees.ungraded", "trees.reward_error"}),
    # a node below the root that was never valued
    (with_node(inner, rollouts=[]), {"trees.unvalued"}),
    # a terminal node with children
    (with_node(inner, terminal=True, verdict="wrong"), {"trees.expanded_terminals"}),
    # a reference that the grader cannot read
    (with_node(terminal, verdict="unparseable_gold", reward=0.0), {"trees.readable_gold", "trees.q_error"}),
]


@pytest.mark.parametrize(("spoil", "where"), BAD_TREES)
def test_bad_trees_are_named(spoil: Callable[[Tree], Tree], where: set[str], trees: list[Tree]) -> None:
    at = next(i for i, t in enumerate(trees) if t.nodes[0].visits > 3 and has(terminal, t) and has(inner, t))
    spoiled = [*trees[:at], spoil(trees[at]), *trees[at + 1 :]]
    result = check_trees(spoiled)
    assert failed(result) - {"trees.q_error"} == where - {"trees.q_error"}  # Q may also fail at the parent
    for line in result.failures:
        assert re.search(rf"(of \d+|not): {trees[at].problem.id}\b", line), line


def has(position: Callable[[Tree], int], tree: Tree) -> bool:
    try:
        return position(tree) > 0
    except StopIteration:
        return False


def test_too_few_usable_trees(trees: list[Tree]) -> None:
    result = check_trees(trees, min_solved=0.999, min_valid=0.999)
    assert failed(result) == {"trees.solved", "trees.valid"}
    unsolved = tree_rows(trees).query("not solved")["id"]
    assert f"not: {unsolved.iloc[0]}" in result.failures[0]
    assert result.summary["expectations"]["trees/solved/expect_column_mean_to_be_between"]["observed"] < 0.999


def test_the_same_problem_twice(trees: list[Tree]) -> None:
    assert "train-0" in check_trees([*trees, trees[0]]).failures[0]


# ------------------------------------------------------------------------------------------------------------ traces


def test_traces_of_the_cloning_pass(traces: list[Trace], trees: list[Tree]) -> None:
    assert {t.kind for t in traces} == {"direct", "search"}
    good = check_traces(
        paired(traces, trees),
        world.problem_sets()["eval_three"],
        direct_between=(0.1, 0.7),
        max_backtracks=2,
        max_characters=2000,
    )
    assert good.failures == []
    assert check_traces(paired(world.traces(trees, reflection=False), trees), [], direct_between=(1, 1)).failures == []


def test_bounds_of_the_whole_table(traces: list[Trace], trees: list[Tree]) -> None:
    result = check_traces(paired(traces, trees), [], direct_between=(0.9, 1), max_backtracks=1, max_characters=10)
    assert failed(result) == {"traces.direct", "traces.backtracks", "traces.characters"}
    one_answer = [t for t in traces if t.answer == "4"]
    assert failed(check_traces(paired(one_answer, trees), [])) == {"answers.excess"}


def test_traces_of_eval_problems_are_named(traces: list[Trace], trees: list[Tree]) -> None:
    task = next(t.problem for t in trees if t.problem.id == traces[0].problem_id)
    same_id = task.model_copy(update={"question": "something else"})
    same_question = task.model_copy(update={"id": "eval-1"})
    for leaked in (same_id, same_question):
        result = check_traces(paired(traces, trees), [leaked])
        assert failed(result) == {"traces.eval_problem"}
        assert f"{traces[0].id} (eval_problem {leaked.id})" in result.failures[0]


def rewritten(trace: Trace, segments: Iterable[Segment], **changes: Any) -> Trace:
    pieces = list(segments)
    text = "".join(s.text for s in pieces)
    return trace.model_copy(update={"segments": pieces, "completion": text, **changes})


BAD_TRACES = [
    # stops before the answer
    (lambda t: rewritten(t, t.segments[:-1]), {"traces.ends_right"}),
    # claims another answer than its last step's
    (lambda t: rewritten(t, t.segments, answer="99"), {"traces.ends_right"}),
    # says it searches, but its wrong steps are gone
    (lambda t: rewritten(t, [s for s in t.segments if s.kind != "wrong_step"]), {"traces.wrong_iff_search"}),
    # tries wrong answers, but says it is direct
    (lambda t: rewritten(t, t.segments, kind="direct"), {"traces.wrong_iff_search"}),
    # jumps without saying where to
    (lambda t: rewritten(t, [s for s in t.segments if s.kind != "return"]), {"traces.uncounted_returns"}),
    # gives the right answer, marks it as wrong, goes on
    (
        lambda t: rewritten(t, [t.segments[-1].model_copy(update={"kind": "wrong_step"}), *t.segments]),
        {"traces.right_abandoned"},
    ),
    # of no known tree
    (lambda t: rewritten(t, t.segments, problem_id="gone"), {"traces.has_tree"}),
    # an id that stands there twice
    (lambda t: rewritten(t, t.segments, id="train-1/0"), {"traces.id"}),
]


@pytest.mark.parametrize(("spoil", "where"), BAD_TRACES)
def test_bad_traces_are_named(
    spoil: Callable[[Trace], Trace], where: set[str], traces: list[Trace], trees: list[Tree]
) -> None:
    at = max(i for i, t in enumerate(traces) if t.kind == "search")
    bad = spoil(traces[at])
    result = check_traces(paired([*traces[:at], bad, *traces[at + 1 :]], trees), [])
    assert failed(result) == where
    assert bad.id in result.failures[0].split("failing rows")[1]


# ---------------------------------------------------------------------------------------------------- what is left


@pytest.mark.parametrize(
    ("result", "where"),
    [
        (lambda: check_problems({}), {"sets.table", "sets.group", "problems.table"}),
        (lambda: check_trees([]), {"trees.table"}),
        (lambda: check_traces([], []), {"traces.table", "answers.table"}),
    ],
)
def test_nothing_is_not_enough(result: Callable[[], GateResult], where: set[str]) -> None:
    """Great Expectations passes rules on the rows of a table without rows."""
    assert where <= failed(result())


def test_require_keeps_the_evidence_and_stops(trees: list[Tree], tmp_path: Path) -> None:
    bad = [with_node(lambda tree: 0, q=0.987)(trees[0]), *trees[1:]]
    metrics, docs = tmp_path / "metrics/trees.json", tmp_path / "docs"
    with pytest.raises(GateError) as error:
        require(check_trees(bad), metrics, docs)
    for part in ("gate trees failed", "trees.q_error", "expect_column_values_to_be_between", "train-0"):
        assert part in str(error.value)
    summary = json.loads(metrics.read_text())
    assert not summary["success"]
    assert summary["expectations"]["trees/q_error/expect_column_values_to_be_between"] == {
        "success": False,
        "observed": None,
        "unexpected": 1,
        "kwargs": {"max_value": 0.0001, "min_value": 0.0},
    }
    assert (docs / "trees/index.html").exists()
    require(check_trees(trees), metrics, docs)  # the next run, with good data, replaces both
    assert json.loads(metrics.read_text())["success"]
    assert len(list((docs / "trees/validations").rglob("*.html"))) == 1
    assert [p.name for p in metrics.parent.iterdir()] == ["trees.json"]


def test_the_same_data_gives_the_same_bytes(trees: list[Tree], tmp_path: Path) -> None:
    for name in ("a", "b"):
        require(check_trees(trees), tmp_path / f"{name}.json", tmp_path / "docs")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_ten_thousand_rows_take_a_moment(traces: list[Trace], trees: list[Tree], tmp_path: Path) -> None:
    many = [traces[i % len(traces)].model_copy(update={"id": str(i)}) for i in range(10_000)]
    started = time.monotonic()
    require(check_traces(paired(many, trees), []), tmp_path / "m.json", tmp_path / "docs")
    assert time.monotonic() - started < 10  # 0.8 s on two quiet cores

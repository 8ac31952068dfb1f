"""Figures of trees whose steps are checked."""

from astro.search.stats import TreeFigures, tree_metrics
from schemas.records import Node, Problem, StepChecks, Tree
from stages.mcts import counted

PROBLEM = Problem(id="p", task="math", question="What is $3+4$?", gold="7", level=1, chance=None)


def node(index: int, parent: int, verdict: str | None = None, checks: tuple[int, int, int] | None = None) -> Node:
    return Node(
        index=index,
        parent=parent,
        depth=0 if parent < 0 else 1 + (parent > 0),
        text="" if parent < 0 else f"step {index}",
        prior=1.0,
        visits=1,
        q=0.0,
        reward=0.0,
        terminal=verdict is not None,
        answer="7" if verdict else None,
        verdict=verdict,
        rollouts=[],
        checks=None if checks is None else StepChecks(true=checks[0], false=checks[1], unchecked=checks[2]),
    )


def tree(*nodes: Node) -> Tree:
    return Tree(problem=PROBLEM, nodes=list(nodes), iterations=1, requests=1, tokens=1)


def test_right_answers_over_false_steps_are_lucky():
    sound = tree(node(0, -1), node(1, 0, None, (2, 0, 1)), node(2, 1, "correct", (0, 0, 0)))
    lucky = tree(
        node(0, -1), node(1, 0, None, (1, 2, 0)), node(2, 1, "correct", (1, 0, 0)), node(3, 1, "wrong", (0, 1, 0))
    )
    found = tree_metrics([sound, lucky])["checks"]
    assert found == {"true": 4, "false": 3, "unchecked": 1, "false_steps": 0.4, "lucky": 0.5}


def test_without_checks_there_is_no_figure_and_no_trace_in_the_record():
    plain = tree(node(0, -1), node(1, 0, "correct"))
    assert tree_metrics([plain])["checks"] is None
    assert "checks" not in plain.model_dump_json()


def test_problems_without_a_token_are_named(capsys):
    """A prompt that fills the context is answered with nothing: the stage says whose it was."""
    known = tree(node(0, -1))
    silent = known.model_copy(update={"problem": PROBLEM.model_copy(update={"id": "huge"}), "tokens": 0})
    trees = [known, silent]
    assert list(counted(iter(trees), TreeFigures())) == trees
    assert (
        "[mcts] warning: no tokens for 1 problem, because a prompt fills engine.max_model_len; the first is huge"
        in capsys.readouterr().out
    )

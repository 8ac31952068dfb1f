"""Best-of-N as a tree: N independent solutions whose common beginnings are merged (rejection sampling).

It is the comparison for the search of `astro.search.core` at an equal number of generated tokens: the same policy,
grader and record, without search. A node's rollouts are the solutions through it, N is their number, R = Q the share of
correct ones, and P its share among its siblings.
"""

from collections.abc import Sequence
from itertools import takewhile

from astro.search.core import IsTerminal, Key, Search, Split, answered, graded, last_step, rollout
from astro.search.requests import Expand, Grade, Graded, Sample, Simulate
from astro.search.tree import SearchNode, new_root, to_record
from astro.seeds import node_seed
from schemas.records import ROOT, Problem, Rollout


def sample_tree(
    problem: Problem,
    *,
    samples: int,
    max_depth: int,
    seed: int,
    split: Split,
    is_terminal: IsTerminal,
    key: Key = last_step,
) -> Search:
    """Sample one problem. Like `astro.search.core.search` it is a generator, with one request and two batches of grades.

    Args:
        samples: N.
        max_depth: largest number of steps. A solution that is longer, is cut, has a blank step or never answers is dropped:
            it
            costs tokens but adds no node. If all are dropped, the root is closed.

    Raises:
        ValueError: as `search`.
    """
    asked: list[Expand | Simulate] = [Simulate((), samples, node_seed(seed, problem.id, (), "rollout"))]
    drawn = answered(asked, (yield asked))[0]
    nodes = [new_root()]
    through: list[list[Rollout]] = [[]]  # for each node the solutions through it
    found = [
        (tuple(solution), sample)
        for sample in drawn
        if (solution := _solution(sample, split=split, is_terminal=is_terminal, max_depth=max_depth))
    ]
    grades = yield from graded([Grade(steps, "") for steps, _ in found])
    for (steps, sample), grade in zip(found, grades, strict=True):
        _insert(nodes, through, steps, sample, grade, key=key, is_terminal=is_terminal)
    # Merged nodes keep their first texts, so the text of a path may differ from the solutions through it.
    ends = [node for node in nodes if node.terminal]
    for node, grade in zip(ends, (yield from graded([Grade(node.steps, "") for node in ends])), strict=True):
        node.answer, node.verdict = grade[:2]
    if len(nodes) == 1:
        nodes[ROOT].close()
    for node in nodes:
        _value(node, through[node.index], siblings=len(through[node.parent]) if node.index else 0)
    tokens = sum(sample.tokens for sample in drawn)
    return to_record(problem, nodes, iterations=samples, requests=1, tokens=tokens)


def _solution(sample: Sample, *, split: Split, is_terminal: IsTerminal, max_depth: int) -> list[str]:
    """The steps up to the first one that answers; [] if the sample is not a solution."""
    steps = split(sample.text) if sample.finished else []
    begun = list(takewhile(lambda step: not is_terminal(step), steps))
    solution = steps[: len(begun) + 1]
    whole = len(solution) > len(begun) and all(step.strip() for step in solution)
    return solution if whole and len(solution) <= max_depth else []


def _insert(
    nodes: list[SearchNode],
    through: list[list[Rollout]],
    steps: Sequence[str],
    sample: Sample,
    grade: Graded,
    *,
    key: Key,
    is_terminal: IsTerminal,
) -> None:
    """Insert one solution into the tree. Siblings with equal keys are one node, which keeps its first text."""
    made = rollout(sample, grade)
    here = nodes[ROOT]
    through[ROOT].append(made)
    for step in steps:
        path = (*here.steps, step)
        known = {(key(nodes[i].steps), nodes[i].terminal): nodes[i] for i in here.children}
        child = known.get((key(path), is_terminal(step)))
        if child is None:
            child = SearchNode(index=len(nodes), parent=here.index, steps=path, terminal=is_terminal(step))
            nodes.append(child)
            through.append([])
            here.children.append(child.index)
        through[child.index].append(made)
        here = child


def _value(node: SearchNode, rollouts: Sequence[Rollout], *, siblings: int) -> None:
    """Set N, R, Q and P of a node. siblings: number of solutions through the parent; 0 for the root."""
    node.visits = len(rollouts)
    if rollouts:
        node.q = sum(r.verdict == "correct" for r in rollouts) / len(rollouts)
    if siblings:
        node.prior = len(rollouts) / siblings
        node.reward = float(node.verdict == "correct") if node.terminal else node.q
    if node.terminal:
        node.q = node.reward
    elif node.index != ROOT:
        node.rollouts = list(rollouts)

"""Select the chains that the page shows: typical ones of every outcome, not the best ones."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.records import Completion, Problem

Outcome = Literal["solved after going back", "solved at once", "failed", "right answer, wrong steps"]

TURNS: tuple[Outcome, ...] = (
    "solved after going back",
    "solved at once",
    "failed",
    "solved after going back",
    "right answer, wrong steps",
)
"""Cycle of outcomes to choose from. An outcome without chains is skipped."""


@dataclass(frozen=True)
class Example:
    """A problem with a chain on it and, for contrast, a chain of another model on the same problem."""

    problem: Problem
    completion: Completion
    contrast: Completion | None = None
    right: tuple[int, int] | None = None  # (right samples, samples) of the chain's model on this problem
    contrast_right: tuple[int, int] | None = None  # the same for the contrast's model


def outcome(completion: Completion) -> Outcome:
    """The outcome of a chain. The answer is graded separately, so it can be right although the last attempt is not."""
    chain = completion.chain
    if completion.verdict != "correct":
        return "failed"
    if not (chain.attempts and chain.nodes[chain.attempts[-1]].right):
        return "right answer, wrong steps"
    return "solved after going back" if chain.back_edges else "solved at once"


def choose(completions: Iterable[Completion], count: int) -> list[Completion]:
    """Choose up to `count` chains on different problems, alternating between outcomes.

    Within an outcome, chains with the most frequent number of backtracks come first, then one of each other number,
    then the rest. So the first one is typical and the next ones differ. The choice does not depend on the order of the
    completions.
    """
    pools: dict[Outcome, list[Completion]] = defaultdict(list)
    for completion in sorted(completions, key=lambda c: (c.sample, c.problem_id)):
        pools[outcome(completion)].append(completion)
    queues = {name: _varied(pool) for name, pool in pools.items()}
    chosen: list[Completion] = []
    used: set[str] = set()
    while len(chosen) < count:
        before = len(chosen)
        for name in TURNS:
            queue = queues.get(name, [])
            while queue and queue[0].problem_id in used:
                queue.pop(0)
            if queue and len(chosen) < count:
                chosen.append(queue.pop(0))
                used.add(chosen[-1].problem_id)
        if len(chosen) == before:
            break
    return chosen


def examples(
    problems: dict[str, Problem], chains: Sequence[Completion], contrasts: Sequence[Completion], count: int
) -> list[Example]:
    """Chosen chains, each with the contrast's chain on the same problem and sample number (or its first one).

    Args:
        problems: id -> problem, of one eval set; completions on other problems are left out.
        chains: chains of the model to show.
        contrasts: chains of the model to compare with; may be empty.
        count: largest number of examples.
    """
    mine, others = _by_problem(problems, chains), _by_problem(problems, contrasts)
    found = []
    for completion in choose((c for done in mine.values() for c in done), count):
        against = others.get(completion.problem_id, [])
        found.append(
            Example(
                problem=problems[completion.problem_id],
                completion=completion,
                contrast=next((c for c in against if c.sample == completion.sample), next(iter(against), None)),
                right=_tally(mine[completion.problem_id]),
                contrast_right=_tally(against),
            )
        )
    return found


def _varied(pool: Sequence[Completion]) -> list[Completion]:
    """One chain per number of backtracks, the most frequent number first, then all others in order."""
    frequency = Counter(len(c.chain.back_edges) for c in pool)
    firsts: dict[int, Completion] = {}
    rest = []
    for completion in pool:
        number = len(completion.chain.back_edges)
        if number in firsts:
            rest.append(completion)
        else:
            firsts[number] = completion
    return [firsts[number] for number in sorted(firsts, key=lambda n: (-frequency[n], n))] + rest


def _by_problem(problems: dict[str, Problem], completions: Iterable[Completion]) -> dict[str, list[Completion]]:
    found: dict[str, list[Completion]] = defaultdict(list)
    for completion in sorted(completions, key=lambda c: (c.problem_id, c.sample)):
        if completion.problem_id in problems:
            found[completion.problem_id].append(completion)
    return found


def _tally(completions: Sequence[Completion]) -> tuple[int, int] | None:
    return (sum(c.verdict == "correct" for c in completions), len(completions)) if completions else None

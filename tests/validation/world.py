"""A small world whose trees and traces are made by the real search and the real cloning: count up to a target."""

import random
from collections.abc import Iterable

from astro.cloning.example_selection import traces_of
from astro.cloning.verbalize import Phrases
from astro.cloning.walk import correct_terminals
from astro.search import Expand, Sample, SearchConfig, Simulate, search
from schemas.records import Problem, Trace, Tree, Verdict
from tests.search.world import judged

PHRASES = Phrases(reflection=["But wait."], return_step=["Back to"], return_root=["Start again:"])


def problem(name: str, question: str, *, gold: str = "4", level: int = 3, chance: float | None = 0.25) -> Problem:
    return Problem(id=name, task="countdown", question=question, gold=gold, level=level, chance=chance)


def problem_sets() -> dict[str, list[Problem]]:
    """40 train, 10 rl and 2 x 10 eval problems; half of train and rl are of level 3, half of level 4."""
    sizes = {"train": 40, "rl": 10, "eval_three": 10, "eval_four": 10}
    return {
        name: [problem(f"{name}-{i}", f"make {i} in {name}", level=3 + i % 2) for i in range(size)]
        for name, size in sizes.items()
    }


def grow(number: int, *, iterations: int = 8) -> Tree:
    """The search tree of "count to 2..5 in steps of 1 to 3", from a policy that stops at random."""
    target = 2 + number % 4
    task = problem(f"train-{number}", f"count to {target} ({number})", gold=str(target))

    def total(steps: tuple[str, ...]) -> int:
        return sum(int(step) for step in steps if step.startswith("+"))

    def judge(steps: tuple[str, ...], rest: str) -> tuple[str | None, Verdict]:
        found = (rest or steps[-1]).removeprefix("= ")
        return found, "correct" if found == task.gold else "wrong"

    def sample(request: Expand | Simulate, rng: random.Random) -> Sample:
        stop = isinstance(request, Simulate) or rng.random() < 0.4
        text = f"= {total(request.steps) + rng.randint(0, 2)}" if stop else f"+{rng.randint(1, 3)}"
        return Sample(text=text, logprob=-rng.random(), tokens=2, finished=rng.random() < 0.95)

    config = SearchConfig(
        num_actions=3, rollouts_per_child=2, num_simulations=iterations, max_depth=4, c_puct=1.0, prior="sequence"
    )
    run = judged(search(task, config=config, seed=number, is_terminal=lambda step: step.startswith("=")), judge)
    answers = None
    while True:
        try:
            requests = run.send(answers)
        except StopIteration as end:
            return end.value
        answers = [[sample(r, rng) for _ in range(r.n)] for r in requests for rng in [random.Random(r.seed)]]


def traces(trees: list[Tree], *, reflection: bool = True) -> list[Trace]:
    """Two traces per solved tree, about a quarter direct."""
    return [
        trace
        for tree in trees
        if correct_terminals(tree)
        for trace in traces_of(
            tree,
            candidates=correct_terminals(tree),
            count=2,
            max_backtracks=2,
            direct_share=0.25,
            reflection=reflection,
            phrases=PHRASES,
            jump="common_ancestor",
            seed=1,
            prompt=lambda task: task.question,
            step_end="\n",
            abandoned=lambda text: (text, ""),
            restate=lambda task, steps: f"{task.question}: {' '.join(steps)}\n",
        )
    ]


def paired(traces: Iterable[Trace], trees: Iterable[Tree]) -> list[tuple[Trace, Tree | None]]:
    """Each trace with its tree."""
    by_problem = {tree.problem.id: tree for tree in trees}
    return [(trace, by_problem.get(trace.problem_id)) for trace in traces]

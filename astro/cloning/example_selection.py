"""Select the training examples from trees: which terminals, which mix, how many per tree."""

import random
from collections.abc import Callable, Sequence

from astro.cloning.verbalize import Phrases, write_chain
from astro.cloning.walk import BackFrom, Jump, Order, correct_terminals, in_order, plan_walk, wrong_terminals
from schemas.records import Problem, Trace, Tree

Accept = Callable[[Tree, list[int]], list[int]]
"""`accept(tree, correct terminals)` returns those that pass the filter, in the same order."""


def pair_seed(seed: int, problem_id: str) -> str:
    """Seed of a tree's random generator. It makes the traces of a tree independent of the other trees."""
    return f"linearize/{seed}/{problem_id}"


def traces_of(
    tree: Tree,
    *,
    candidates: Sequence[int],
    wrong: Sequence[int] | None = None,
    count: int,
    max_backtracks: int,
    direct_share: float,
    reflection: bool,
    phrases: Phrases | None,
    jump: Jump,
    back_from: BackFrom = "terminal",
    order: Order = "random",
    seed: int,
    prompt: Callable[[Problem], str],
    step_end: str,
    abandoned: Callable[[str], tuple[str, str]],
    restate: Callable[[Problem, Sequence[str]], str],
) -> list[Trace]:
    """Up to `count` different chains from one tree, ending at its accepted correct terminals `candidates` (best first).

    `wrong` are the terminals that a search may visit before; None: all of `wrong_terminals`.

    Each chain is a direct solution with probability `direct_share` (always, if the tree has no wrong terminal), else a
    search with 1..max_backtracks wrong terminals, uniformly. With `reflection` False the same draws are made and the
    wrong branches are then removed, so that the direct arm has the same trees, problems and number of examples.
    """
    rng = random.Random(pair_seed(seed, tree.problem.id))
    wrong = wrong_terminals(tree) if wrong is None else list(wrong)
    traces, seen = [], set()
    for number in range(count):
        correct = candidates[number % len(candidates)]
        chosen: list[int] = []
        if wrong and max_backtracks and rng.random() >= direct_share:
            chosen = rng.sample(wrong, rng.randint(1, min(max_backtracks, len(wrong))))
        if (correct, *chosen) in seen:
            continue  # compared before the removal of reflection, so that both arms skip the same ones
        seen.add((correct, *chosen))
        # Jumps and phrases have their own generator, so that no arm shifts the draws of the next chain.
        words = random.Random(f"{pair_seed(seed, tree.problem.id)}/{number}")
        visits = in_order(tree, chosen, correct=correct, order=order, rng=words) if reflection else []
        walk = plan_walk(tree, correct=correct, wrong=visits, jump=jump, rng=words, back_from=back_from)
        segments = write_chain(
            tree,
            walk,
            phrases=phrases,
            rng=words,
            step_end=step_end,
            abandoned=abandoned,
            restate=lambda steps: restate(tree.problem, steps),
        )
        traces.append(
            Trace(
                id=f"{tree.problem.id}/{number}",
                problem_id=tree.problem.id,
                kind="search" if walk.backtracks else "direct",
                prompt=prompt(tree.problem),
                completion="".join(s.text for s in segments),
                backtracks=walk.backtracks,
                segments=segments,
                answer=tree.nodes[correct].answer or "",
            )
        )
    return traces


def accepted(tree: Tree, *, accept: Accept, counts: dict[str, int]) -> list[int]:
    """The correct terminals of a tree that pass `accept`. The tree is counted as used, unsolved or filtered out."""
    correct = correct_terminals(tree)
    chosen = accept(tree, correct) if correct else []
    counts["trees_used" if chosen else "trees_filtered" if correct else "trees_unsolved"] += 1
    return chosen

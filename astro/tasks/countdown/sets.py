"""Seeded Countdown problem sets and the base corpus. The caller passes the random generator."""

import random
from collections.abc import Iterator
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from astro.tasks.countdown.wording import (
    PLAIN,
    WORDS,
    Move,
    apply_move,
    legal_moves,
    prompt_of,
    question,
    write_solution,
)
from schemas.records import Problem

if TYPE_CHECKING:
    from astro.tasks.chat import ChatTemplate

MAX_TRIES = 1000
"""Consecutive draws without a new problem after which the world counts as exhausted."""

MAX_CORPUS_TRIES = 100_000
"""Consecutive unusable paths after which the corpus gives up. Paths are cheap, and some worlds reach few targets."""


@lru_cache(maxsize=200_000)
def outcome_shares(numbers: tuple[int, ...], value_max: int) -> MappingProxyType[int, float]:
    """Exact distribution of the final value of a random legal path, with each legal move of a state equally likely.

    `numbers` must be sorted, because they are the cache's key. Dead ends are left out, so the shares may sum to less than 1.
    """
    if len(numbers) == 1:
        return MappingProxyType({numbers[0]: 1.0})
    shares: dict[int, float] = {}
    moves = legal_moves(numbers, value_max)
    for move in moves:
        for value, share in outcome_shares(tuple(sorted(apply_move(numbers, move))), value_max).items():
            shares[value] = shares.get(value, 0.0) + share / len(moves)
    return MappingProxyType(shares)


def chance_of(target: int, numbers: list[int], value_max: int) -> float:
    """Exact probability that a random legal path reaches `target`."""
    return outcome_shares(tuple(sorted(numbers)), value_max).get(target, 0.0)


def problem_key(target: int, numbers: list[int]) -> tuple[int, ...]:
    """Key that is equal for problems that differ only in the order of their numbers."""
    return (target, *sorted(numbers))


def draw_problem(
    rng: random.Random, *, numbers: int, number_max: int, target_min: int, target_max: int, value_max: int
) -> tuple[int, list[int], float]:
    """Draw one solvable problem: (target, numbers, chance). The target is uniform over the values that the numbers can reach.

    Raises:
        ValueError: in `MAX_TRIES` draws no numbers could reach any target.
    """
    for _ in range(MAX_TRIES):
        drawn = [rng.randint(1, number_max) for _ in range(numbers)]
        shares = outcome_shares(tuple(sorted(drawn)), value_max)
        targets = sorted(v for v in shares if target_min <= v <= target_max)
        if targets:
            target = rng.choice(targets)
            return target, drawn, shares[target]
    raise ValueError(
        f"problems: found no {numbers} numbers from 1..{number_max} that reach a target in "
        f"{target_min}..{target_max} (problems.target_min, problems.target_max) with results up to {value_max} "
        "(problems.value_max)"
    )


def generate_set(
    rng: random.Random, *, name: str, sizes: list[int], taken: set[tuple[int, ...]], world: dict[str, int]
) -> tuple[list[Problem], int]:
    """Generate the problems of a set and count the dropped duplicates. No problem is in `taken`, which is extended.

    Args:
        sizes: number of numbers of the i-th problem.
        world: number_max, target_min, target_max, value_max.

    Raises:
        ValueError: the world has too few different problems.
    """
    problems, dropped = [], 0
    for position, size in enumerate(sizes):
        for _ in range(MAX_TRIES):
            target, numbers, _ = draw_problem(rng, numbers=size, **world)
            key = problem_key(target, numbers)
            if key not in taken:
                break
            dropped += 1
        else:
            raise ValueError(
                f"problems: set {name!r} wants {len(sizes)} problems, but {MAX_TRIES} draws in a row gave no new "
                f"one with {size} numbers after {position}. Raise number_max or target_max, or reduce the size of "
                "the set"
            )
        taken.add(key)
        problems.append(make_problem(f"{name}-{position:05d}", target, numbers, value_max=world["value_max"]))
    return problems, dropped


def make_problem(identifier: str, target: int, numbers: list[int], *, value_max: int) -> Problem:
    """Build the record of a problem, with its exact chance."""
    return Problem(
        id=identifier,
        task="countdown",
        question=question(target, numbers),
        gold=str(target),
        level=len(numbers),
        chance=round(chance_of(target, numbers, value_max), 9),
    )


def random_path(rng: random.Random, numbers: list[int], value_max: int) -> list[Move] | None:
    """A random legal path down to one number; None: it hit a dead end. The operands of + and * come in random order."""
    state, moves = list(numbers), []
    while len(state) > 1:
        options = legal_moves(state, value_max)
        if not options:
            return None
        move = rng.choice(options)
        if move.op in "+*" and rng.random() < 0.5:
            move = Move(move.b, move.op, move.a, move.result)
        moves.append(move)
        state = apply_move(state, move)
    return moves


def corpus(
    rng: random.Random,
    *,
    levels: dict[str, float],
    miss_share: float,
    excluded: set[tuple[int, ...]],
    world: dict[str, int],
    chat: "ChatTemplate | None" = None,
) -> Iterator[str]:
    """Endless corpus of questions with direct solutions. A share `miss_share` of them misses the target and says so.

    The path is drawn first and the target afterwards, so that each step follows from its operands and not from the target.
    A base that saw only successes would fake its arithmetic (docs/log.md). Problems of `excluded` are left out. With a `chat`
    template the solutions are conversations.

    Raises:
        ValueError: `MAX_CORPUS_TRIES` paths in a row missed every allowed target.
    """
    sizes, weights = [int(k) for k in levels], list(levels.values())
    low, high = world["target_min"], world["target_max"]
    tries = 0
    while tries < MAX_CORPUS_TRIES:
        tries += 1
        numbers = [rng.randint(1, world["number_max"]) for _ in range(rng.choices(sizes, weights)[0])]
        moves = random_path(rng, numbers, world["value_max"])
        if moves is None:
            continue
        result = moves[-1].result
        target = result
        if rng.random() < miss_share:
            target = rng.randint(low, high)
        if not low <= target <= high or problem_key(target, numbers) in excluded:
            continue
        tries = 0
        steps = write_solution(target, numbers, moves, WORDS if chat else PLAIN)
        yield prompt_of(question(target, numbers), chat) + "\n".join(steps)
    raise ValueError(
        f"base.corpus: {tries} random paths in a row gave no new solution with a target in {low}..{high}; "
        "change base.corpus.levels, problems.target_min or problems.target_max"
    )


# --- whole problem sets -----------------------------------------------------------------------------------------------


def make_sets(params: dict, *, seed: int) -> tuple[dict[str, list[Problem]], int]:
    """Generate all sets of a run. Eval sets come first, so that train and rl exclude them. Each set has its own generator.

    Args:
        params: the values of schemas.problems.ProblemsParams.

    Returns:
        Problems by set name (train, rl, eval_<name>), and the number of draws that were dropped as duplicates.
    """
    world = {k: params[k] for k in ("number_max", "target_min", "target_max", "value_max")}
    taken: set[tuple[int, ...]] = set()
    sets: dict[str, list[Problem]] = {}
    dropped = 0
    wanted = {f"eval_{name}": [spec["level"]] * spec["size"] for name, spec in params["eval"].items()}
    for name in ("train", "rl"):
        rng = random.Random(f"levels/{seed}/{name}")
        sizes, weights = [int(k) for k in params["levels"]], list(params["levels"].values())
        wanted[name] = rng.choices(sizes, weights, k=params[name])
    for name, sizes in wanted.items():
        rng = random.Random(f"problems/{seed}/{name}")
        sets[name], lost = generate_set(rng, name=name, sizes=sizes, taken=taken, world=world)
        dropped += lost
    return sets, dropped


LARGEST = 999_999_999
"""Largest number that a question can hold, because the parser reads at most nine digits."""

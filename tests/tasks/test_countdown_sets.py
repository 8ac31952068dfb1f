"""Problem sets: exact chances, apart from each other, the same every time; broken files named by line and field."""

import itertools
import random
from fractions import Fraction

import pytest

from astro.tasks.countdown.sets import (
    chance_of,
    corpus,
    draw_problem,
    generate_set,
    make_sets,
    outcome_shares,
    problem_key,
    random_path,
)
from astro.tasks.countdown.task import Countdown
from astro.tasks.countdown.wording import apply_move, legal_moves, parse_question, write_solution
from schemas.records import Problem

WORLD = {"number_max": 6, "target_min": 5, "target_max": 30, "value_max": 40}
PARAMS = {
    **WORLD,
    "train": 60,
    "rl": 30,
    "levels": {"2": 0.1, "3": 0.9},
    "eval": {"easy": {"level": 2, "size": 4}, "hard": {"level": 3, "size": 20}},
}


def paths(numbers, value_max, share=Fraction(1)):
    """Every legal path as (final value, its exact probability), written out without a cache or a shortcut."""
    if len(numbers) == 1:
        yield numbers[0], share
        return
    moves = legal_moves(numbers, value_max)
    for move in moves:
        yield from paths(apply_move(numbers, move), value_max, share / len(moves))


CHANCES = [
    # (numbers, value_max)
    ([2, 3], 60),
    ([3, 3, 3], 60),  # equal numbers
    ([1, 5, 6], 60),
    ([4, 8, 9], 20),  # the bound bites
    ([9, 9, 20], 11),  # dead ends: the shares add up to less than 1
    ([1, 2, 3, 4], 30),
]


@pytest.mark.parametrize(("numbers", "value_max"), CHANCES)
def test_chance_is_that_of_all_random_legal_paths(numbers, value_max):
    expected: dict[int, Fraction] = {}
    for value, share in paths(numbers, value_max):
        expected[value] = expected.get(value, 0) + share
    shares = outcome_shares(tuple(sorted(numbers)), value_max)
    assert set(shares) == set(expected)
    assert all(shares[v] == pytest.approx(float(expected[v]), abs=1e-12) for v in expected)
    assert chance_of(max(expected, default=1), numbers[::-1], value_max) == shares.get(max(expected, default=1), 0.0)
    assert chance_of(10**6, numbers, value_max) == 0.0


def test_dead_ends_are_missing_from_the_shares():
    """Of 9 / 9 and twice 20 - 9 the first leads to 1 and 20, which nothing legal combines."""
    assert sum(outcome_shares((9, 9, 20), 11).values()) == pytest.approx(2 / 3)
    assert sum(outcome_shares((1, 5, 6), 60).values()) == pytest.approx(1)


def test_a_random_path_is_legal_and_ends_at_one_number():
    rng = random.Random(0)
    orders = set()
    for _ in range(200):
        state = [2, 5, 6]
        for move in random_path(rng, state, 40):
            legal = legal_moves(state, 40)
            swapped = type(move)(move.b, move.op, move.a, move.result)
            assert move in legal or (move.op in "+*" and swapped in legal)
            orders.add((move.op, move in legal))
            state = apply_move(state, move)
        assert len(state) == 1
    assert {("+", True), ("+", False), ("*", True), ("*", False)} <= orders  # either order of + and *


def test_a_dead_end_gives_no_path():
    assert random_path(random.Random(0), [9, 9], 0) is None


# --- generated sets ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sets():
    return make_sets(PARAMS, seed=1)[0]


def keys(problems):
    return [problem_key(*parse_question(p.question)) for p in problems]


def test_sizes_levels_and_ids(sets):
    assert {name: len(ps) for name, ps in sets.items()} == {"eval_easy": 4, "eval_hard": 20, "train": 60, "rl": 30}
    assert {p.level for p in sets["eval_easy"]} == {2}
    assert {p.level for p in sets["train"]} == {2, 3}
    ids = [p.id for ps in sets.values() for p in ps]
    assert len(set(ids)) == len(ids)


def test_no_problem_stands_twice_in_any_sets(sets):
    everything = [key for ps in sets.values() for key in keys(ps)]
    assert len(set(everything)) == len(everything)


def test_problems_are_solvable_and_say_how_hard_they_are(sets):
    for p in itertools.chain(*sets.values()):
        target, numbers = parse_question(p.question)
        assert WORLD["target_min"] <= target <= WORLD["target_max"]
        assert p.gold == str(target)
        assert p.level == len(numbers)
        reached = sum(share for value, share in paths(numbers, WORLD["value_max"]) if value == target)
        assert p.chance == pytest.approx(float(reached), abs=1e-8)
        assert p.chance > 0


def test_same_seed_same_sets_and_another_seed_others(sets):
    assert make_sets(PARAMS, seed=1)[0] == sets
    other = make_sets(PARAMS, seed=2)[0]
    assert keys(other["train"]) != keys(sets["train"])


def test_a_larger_train_set_begins_with_the_smaller_one(sets):
    """Eval sets come first, so more training data does not change what is measured."""
    larger = make_sets(PARAMS | {"train": 90}, seed=1)[0]
    assert larger["eval_hard"] == sets["eval_hard"]
    assert larger["train"][:60] == sets["train"]


def test_draws_that_stand_in_another_set_are_counted():
    rng, taken = random.Random(0), set()
    first, _ = generate_set(rng, name="a", sizes=[2] * 12, taken=taken, world=WORLD)
    second, dropped = generate_set(rng, name="b", sizes=[2] * 5, taken=taken, world=WORLD)
    assert not set(keys(first)) & set(keys(second))
    assert dropped > 0


def test_an_exhausted_world_is_an_error_and_no_endless_loop():
    tiny = {"number_max": 2, "target_min": 2, "target_max": 4, "value_max": 4}
    with pytest.raises(ValueError, match=r"set 'a' wants 50 problems.*Raise number_max or target_max"):
        generate_set(random.Random(0), name="a", sizes=[2] * 50, taken=set(), world=tiny)


def test_a_world_without_reachable_target_is_an_error_and_no_endless_loop():
    with pytest.raises(ValueError, match=r"reach a target in 50\.\.60"):
        draw_problem(random.Random(0), numbers=2, number_max=3, target_min=50, target_max=60, value_max=60)


# --- the base corpus --------------------------------------------------------------------------------------------------


def documents(count, *, seed=0, miss_share=0.4, excluded=frozenset(), levels=None):
    made = corpus(
        random.Random(seed),
        levels=levels or {"2": 0.5, "3": 0.5},
        miss_share=miss_share,
        excluded=set(excluded),
        world=WORLD,
    )
    return list(itertools.islice(made, count))


def split(document):
    head, *steps = document.split("\n")
    return parse_question(head), steps


def as_problem(target, numbers):
    return Problem(
        id="p", task="countdown", question=write_question(target, numbers), gold=str(target), level=2, chance=None
    )


def write_question(target, numbers):
    return f"make {target} from {' '.join(map(str, numbers))}"


def test_corpus_solutions_are_faithful_right_or_wrong():
    task = Countdown()
    for document in documents(400):
        (target, numbers), steps = split(document)
        chain = task.parse_chain(as_problem(target, numbers), "\n".join(steps))
        assert [n.valid for n in chain.nodes] == [True] * (len(numbers) - 1)
        assert chain.back_edges == []  # nothing of the search stands in the base corpus
        assert len(chain.attempts) == 1
        end = chain.nodes[-1]
        assert end.claim is end.right
        verdict = task.grade(as_problem(target, numbers), task.extract(document))
        assert verdict == ("correct" if end.right else "wrong")


@pytest.mark.parametrize("miss_share", [0.0, 0.4, 0.8])
def test_the_share_that_misses_is_as_asked(miss_share):
    """Of the drawn paths `miss_share` get a random target. Both kinds are then thinned by the bounds on the target, a
    path that keeps its own result more so, and some random targets are hit: the exact share follows from the paths."""
    low, high = WORLD["target_min"], WORLD["target_max"]
    rng, inside, hit, total = random.Random(5), 0, 0, 4000
    for _ in range(total):
        numbers = [rng.randint(1, WORLD["number_max"]) for _ in range(rng.choice([2, 3]))]
        result = random_path(rng, numbers, WORLD["value_max"])[-1].result
        inside += low <= result <= high
    kept = miss_share + (1 - miss_share) * inside / total
    hit = miss_share * (inside / total) / (high - low + 1)
    expected = (miss_share - hit) / kept
    made = documents(3000, miss_share=miss_share)
    missed = sum(" no answer " in d for d in made) / len(made)
    assert missed == pytest.approx(expected, abs=0.035)  # about four standard errors of the two samples


def test_the_corpus_leaves_eval_problems_out(sets):
    excluded = set(keys(sets["eval_easy"])) | set(keys(sets["eval_hard"]))
    free = {problem_key(*split(d)[0]) for d in documents(3000)}
    assert free & excluded  # they do come up when nobody excludes them
    held = {problem_key(*split(d)[0]) for d in documents(3000, excluded=excluded)}
    assert not held & excluded


def test_the_corpus_is_the_same_every_time():
    assert documents(50, seed=3) == documents(50, seed=3) != documents(50, seed=4)


def test_a_corpus_that_cannot_hit_any_target_is_an_error_and_no_endless_loop():
    far = {"number_max": 2, "target_min": 50, "target_max": 60, "value_max": 60}
    made = corpus(random.Random(0), levels={"2": 1.0}, miss_share=0.0, excluded=set(), world=far)
    with pytest.raises(ValueError, match=r"base\.corpus.*target in 50\.\.60"):
        next(made)


def test_every_written_path_grades_as_its_result(sets):
    task, rng = Countdown(), random.Random(0)
    for p in sets["train"]:
        target, numbers = parse_question(p.question)
        moves = random_path(rng, numbers, WORLD["value_max"])
        if moves is None:
            continue
        steps = write_solution(target, numbers, moves)
        verdict = task.grade(p, task.extract(task.response(steps)))
        assert verdict == ("correct" if moves[-1].result == target else "wrong")

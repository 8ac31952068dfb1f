"""Votes and rewrites over an engine: the same whatever the order of its answers, kept as they come, never asked for twice."""

import contextlib
import random

import pytest

from astro.cloning.judge import sound_share
from astro.cloning.rewrite import Rewritten, chain_id
from astro.cloning.walk import correct_terminals
from astro.engines.api import EngineError
from astro.execution.linearize_tasks import LateEngine, ask_rewrites, ask_votes, ballot_id
from schemas.linearize import RewriteParams, SelfEvalParams
from tests.cloning.rewriting import MATH, Written, editor, moody, traces, triangle, well

TREES = [triangle(n) for n in range(12)]
ARMS = [t for reflection in (True, False) for which in TREES for t in traces(which, reflection=reflection)]
LM = RewriteParams(shots=1, temperature=0.7, max_tokens=256, retries=2, on_failure="drop", max_dropped=1.0)
WRITE = moody(lambda prompt: well(prompt) + " It is $777$.", 0.35)


def rewrites(engine, kept, *, seed=1, concurrency=64, lm=LM):
    edited = editor()
    return ask_rewrites(
        ARMS,
        TREES,
        domain=MATH,
        editor=edited,
        stop=edited.stop,
        settings=lm,
        seed=seed,
        kept=kept / "rewrites.jsonl",
        engine=engine,
        concurrency=concurrency,
    )


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """What a run that nothing disturbs writes."""
    found = rewrites(Written(WRITE), tmp_path_factory.mktemp("reference"))
    assert set(found) == {chain_id(t) for t in ARMS}
    assert {r.dropped_for for r in found.values()} == {None, "added"}  # some tries failed, some chains did
    return found


@pytest.mark.parametrize(("order_seed", "concurrency"), [(0, 1), (1, 7), (2, 1000)])
def test_rewrites_do_not_depend_on_scheduling(reference, tmp_path, order_seed, concurrency):
    engine = Written(WRITE, order_seed=order_seed)
    assert rewrites(engine, tmp_path, concurrency=concurrency) == reference
    assert len(engine.requests) == sum(r.requests for r in reference.values())


def test_requests_are_what_the_params_ask_for(tmp_path):
    engine = Written(WRITE)
    rewrites(engine, tmp_path)
    assert {(r.n, r.max_tokens, r.temperature, r.stop, r.logprobs) for r in engine.requests} == {
        (1, 256, 0.7, ("\n\n",), False)
    }


def test_every_try_has_a_seed_of_its_own_and_another_run_has_others(tmp_path):
    seeds = []
    for seed in (1, 2):
        engine = Written(lambda prompt, seed: ("", True))  # nothing passes: all tries of the first segments
        folder = tmp_path / str(seed)
        folder.mkdir()
        rewrites(engine, folder, seed=seed)
        ids = {t.id for t in ARMS}
        assert len({r.seed for r in engine.requests}) == 3 * len(ids)  # both sets ask for chain n with its seeds
        seeds.append({r.seed for r in engine.requests})
    assert not seeds[0] & seeds[1]


class Failing(Written):
    """Fails after some answers, as a killed process would."""

    def __init__(self, write, after):
        super().__init__(write, order_seed=3)
        self.after = after

    def poll(self):
        if self.after <= 0:
            raise EngineError("gone")
        answers = super().poll()
        self.after -= len(answers)
        return answers


def test_what_came_before_a_failure_is_not_asked_for_again(reference, tmp_path):
    kept = tmp_path / "rewrites.jsonl"
    with pytest.raises(EngineError, match="gone"):
        rewrites(Failing(WRITE, 150), tmp_path, concurrency=5)
    done = [Rewritten.model_validate_json(line) for line in kept.read_text().splitlines()]
    assert 5 < len(done) < len(reference)
    with kept.open("a") as file:
        file.write('{"id": "t0/0/')  # a kill in the middle of a write
    engine = Written(WRITE)
    assert rewrites(engine, tmp_path) == reference
    assert len(engine.requests) == sum(r.requests for r in reference.values()) - sum(r.requests for r in done)

    engine = Written(WRITE)
    assert rewrites(engine, tmp_path) == reference
    assert engine.requests == []


def test_an_engine_is_opened_when_something_is_asked(tmp_path):
    opened = []

    def begin():
        opened.append(Written(WRITE))
        return opened[-1]

    for _ in range(2):
        with contextlib.closing(LateEngine(begin)) as engine:
            rewrites(engine, tmp_path)
    assert len(opened) == 1


# --- votes -------------------------------------------------------------------------------------------------------------

EVAL = SelfEvalParams(votes=8, min_share=0.5, max_tokens=16)


def judge(prompt, seed):
    """Thinks little of the solutions to problems with a 13."""
    good = random.Random(seed).random() < (0.2 if "13" in prompt else 0.8)
    return ("**Yes**, every step holds." if good else "No, it is luck."), False


def votes(engine, kept, *, concurrency=64):
    asked = [(which, node) for which in TREES for node in correct_terminals(which)]
    return ask_votes(
        asked, domain=MATH, settings=EVAL, seed=1, kept=kept / "votes.jsonl", engine=engine, concurrency=concurrency
    )


@pytest.fixture(scope="module")
def ballots(tmp_path_factory):
    """Votes of a run that nothing disturbs."""
    return votes(Written(judge), tmp_path_factory.mktemp("votes"))


def test_votes_are_those_of_each_solution(ballots):
    assert set(ballots) == {ballot_id(which, 3) for which in TREES}
    shares = {which.problem.id: sound_share(ballots[ballot_id(which, 3)], "yes") for which in TREES}
    lucky = {which.problem.id for which in TREES if "13" in which.problem.question + which.nodes[1].text}
    assert 0 < len(lucky) < len(TREES)
    assert max(shares[i] for i in lucky) < min(share for i, share in shares.items() if i not in lucky)


@pytest.mark.parametrize(("order_seed", "concurrency"), [(0, 1), (1, 20), (2, 1000)])
def test_votes_do_not_depend_on_scheduling(ballots, tmp_path, order_seed, concurrency):
    engine = Written(judge, order_seed=order_seed)
    assert votes(engine, tmp_path, concurrency=concurrency) == ballots
    assert {(r.n, r.max_tokens) for r in engine.requests} == {(8, 16)}


def test_votes_that_came_are_not_asked_for_again(ballots, tmp_path):
    with pytest.raises(EngineError, match="gone"):
        votes(Failing(judge, 4), tmp_path, concurrency=8)
    kept = len((tmp_path / "votes.jsonl").read_text().splitlines())
    assert 4 <= kept < len(ballots)
    engine = Written(judge)
    assert votes(engine, tmp_path) == ballots
    assert len(engine.requests) == len(ballots) - kept

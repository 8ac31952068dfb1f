"""Votes and rewrites over an engine: the same whatever the order of its answers, stored as they come, never asked for twice."""

import contextlib
import pickle
import random

import pytest

from astro.cloning.rewrite import Rewritten, chain_id
from astro.cloning.self_eval import sound_share
from astro.cloning.walk import correct_terminals
from astro.execution.job_runner import LocalRunner, run_jobs
from astro.execution.result_store import FILE, ResultStore
from astro.execution.vote_and_rewrite_jobs import Ballot, RewriteJobs, VoteJobs, ballot_id, candidate_of, draft_of
from astro.inference.engine import EngineError
from astro.process import UserError
from schemas.linearize import RewriteParams, SelfEvalParams
from tests.cloning.rewriting import MATH, PHRASES, Written, moody, traces, triangle, well

TREES = [triangle(n) for n in range(12)]
ARMS = [(which, t) for reflection in (True, False) for which in TREES for t in traces(which, reflection=reflection)]
LM = RewriteParams(shots=1, temperature=0.7, max_tokens=256, retries=2, on_failure="drop", max_dropped=1.0)
WRITE = moody(lambda prompt: well(prompt) + " It is $777$.", 0.35)


def run(jobs, items, record, engine, folder, *, in_flight=64):
    """All results by id, from the store in `folder` where they are there already."""
    with contextlib.closing(ResultStore(folder / FILE, record)) as store:
        runner = LocalRunner(lambda: engine)
        run_jobs(
            jobs, lambda: items, store=store, runner=runner, in_flight=in_flight, label="linearize", unit="answers"
        )
        return {item.id: store[item.id] for item in items}


def rewrites(engine, folder, *, seed=1, in_flight=64, lm=LM):
    drafts = {chain_id(t): draft_of(which, t, MATH) for which, t in ARMS}
    jobs = pickle.loads(pickle.dumps(RewriteJobs(lm, "math", seed, tuple(PHRASES.all()))))  # it travels
    return run(jobs, list(drafts.values()), Rewritten, engine, folder, in_flight=in_flight)


def stored(folder, record):
    with contextlib.closing(ResultStore(folder / FILE, record)) as store:
        return [record.model_validate_json(line) for (line,) in store._db.execute("SELECT record FROM results")]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """What a run that nothing disturbs writes."""
    found = rewrites(Written(WRITE), tmp_path_factory.mktemp("reference"))
    assert set(found) == {chain_id(t) for _, t in ARMS}
    assert {r.dropped_for for r in found.values()} == {None, "added"}  # some tries failed, some chains did
    return found


@pytest.mark.parametrize(("order_seed", "in_flight"), [(0, 1), (1, 7), (2, 1000)])
def test_rewrites_do_not_depend_on_scheduling(reference, tmp_path, order_seed, in_flight):
    engine = Written(WRITE, order_seed=order_seed)
    assert rewrites(engine, tmp_path, in_flight=in_flight) == reference
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
        ids = {t.id for _, t in ARMS}
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


def test_what_came_before_a_failure_is_not_asked_for_again(reference, tmp_path, capsys):
    with pytest.raises(UserError, match=r"gone; (\d+) finished answers are kept for the next run"):
        rewrites(Failing(WRITE, 150), tmp_path, in_flight=5)
    done = stored(tmp_path, Rewritten)
    assert 5 < len(done) < len(reference)
    engine = Written(WRITE)
    assert rewrites(engine, tmp_path) == reference
    assert f"[linearize] resumes: {len(done)} of {len(reference)} answers are kept" in capsys.readouterr().out
    assert len(engine.requests) == sum(r.requests for r in reference.values()) - sum(r.requests for r in done)

    engine = Written(WRITE)
    assert rewrites(engine, tmp_path) == reference
    assert engine.requests == []


# --- votes -------------------------------------------------------------------------------------------------------------

EVAL = SelfEvalParams(votes=8, min_share=0.5, max_tokens=16)


def judge(prompt, seed):
    """Thinks little of the solutions to problems with a 13."""
    good = random.Random(seed).random() < (0.2 if "13" in prompt else 0.8)
    return ("**Yes**, every step holds." if good else "No, it is luck."), False


def votes(engine, folder, *, in_flight=8):
    asked = [candidate_of(which, node) for which in TREES for node in correct_terminals(which)]
    found = run(VoteJobs(EVAL, "math", 1), asked, Ballot, engine, folder, in_flight=in_flight)
    return {identifier: ballot.votes for identifier, ballot in found.items()}


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


@pytest.mark.parametrize(("order_seed", "in_flight"), [(0, 1), (1, 20), (2, 1000)])
def test_votes_do_not_depend_on_scheduling(ballots, tmp_path, order_seed, in_flight):
    engine = Written(judge, order_seed=order_seed)
    assert votes(engine, tmp_path, in_flight=in_flight) == ballots
    assert {(r.n, r.max_tokens) for r in engine.requests} == {(8, 16)}


def test_votes_that_came_are_not_asked_for_again(ballots, tmp_path):
    with pytest.raises(UserError, match="gone"):
        votes(Failing(judge, 4), tmp_path, in_flight=1)
    kept = len(stored(tmp_path, Ballot))
    assert 4 <= kept < len(ballots)
    engine = Written(judge)
    assert votes(engine, tmp_path) == ballots
    assert len(engine.requests) == len(ballots) - kept

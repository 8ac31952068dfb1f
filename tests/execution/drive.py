"""Every kind of job over an engine that takes time, in a process that can be killed.

python -m tests.execution.drive KIND FOLDER [ADDRESS of a Ray cluster]
"""

import contextlib
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from astro.cloning.rewrite import Rewritten, chain_id
from astro.cloning.walk import correct_terminals
from astro.execution.job_runner import LocalRunner, Runner, run_jobs
from astro.execution.metered_search import MeteredSearchJobs, Searched
from astro.execution.ray_runner import RayRunner
from astro.execution.result_store import FILE, ResultStore
from astro.execution.search_and_sample_jobs import Answers, SampleJobs
from astro.execution.vote_and_rewrite_jobs import Ballot, RewriteJobs, VoteJobs, candidate_of, draft_of
from astro.inference.engine import Request
from astro.search import Sample
from benchmarks.simulated_engine import SimulatedEngine
from benchmarks.world import Policy, problems, settings
from schemas.execution import RayParams
from schemas.linearize import RewriteParams, SelfEvalParams
from tests.cloning.rewriting import MATH, PHRASES, moody, traces, triangle, well

TOKENS = 10
"""Of each text that is written by a rule."""


def voted(prompt: str, seed: int) -> str:
    """Thinks little of the solutions to problems with a 13."""
    good = random.Random(seed).random() < (0.2 if "13" in prompt else 0.8)
    return "Yes, every step holds." if good else "No, it is luck."


def rewritten(prompt: str, seed: int) -> str:
    """Now and then a number that stands nowhere before."""
    return moody(lambda prompt: well(prompt) + " It is $777$.", 0.35)(prompt, seed)[0]


def by_rule(write: Callable[[str, int], str], request: Request) -> list[Sample]:
    """The samples of a request."""
    return [Sample(write(request.prompt, request.seed + i), 0.0, TOKENS, True) for i in range(request.n)]


@dataclass(frozen=True)
class Kind:
    """A kind of job: what is done, with what, and what the engine answers."""

    jobs: object
    items: list
    record: type
    answer: Callable[[Request], list[Sample]]


@cache
def kind(name: str) -> Kind:
    """votes, rewrites, pass rates, eval, or search."""
    trees = [triangle(n) for n in range(24)]
    if name == "votes":
        jobs = VoteJobs(SelfEvalParams(votes=4, min_share=0.5, max_tokens=16), "math", 1)
        asked = [candidate_of(tree, node) for tree in trees for node in correct_terminals(tree)]
        return Kind(jobs, asked, Ballot, lambda request: by_rule(voted, request))
    if name == "rewrites":
        lm = RewriteParams(shots=1, temperature=0.7, max_tokens=256, retries=2, on_failure="drop", max_dropped=1.0)
        drafts = {chain_id(t): draft_of(tree, t, MATH) for tree in trees for t in traces(tree)}
        jobs = RewriteJobs(lm, "math", 1, tuple(PHRASES.all()))
        return Kind(jobs, list(drafts.values()), Rewritten, lambda request: by_rule(rewritten, request))
    if name == "search":
        return Kind(MeteredSearchJobs(settings(), "countdown", 1), list(problems(40)), Searched, Policy())
    chains = name == "eval"
    jobs = SampleJobs("countdown", 1, name, 4, 99, 1.0, phrases=PHRASES if chains else None, chains=chains)
    return Kind(jobs, list(problems(40)), Answers, Policy())


@dataclass(frozen=True)
class Open:
    """Opens the engine of a kind; picklable."""

    name: str
    token_s: float = 0.004

    def __call__(self) -> SimulatedEngine:
        return SimulatedEngine(kind(self.name).answer, slots=4, token_s=self.token_s, sleeps=self.token_s > 0)


def on(address: str, name: str) -> RayRunner:
    """A runner on a cluster."""
    return RayRunner(Open(name), settings=RayParams(address=address, workers=2, wait_timeout_s=240.0), gpus=0)


def drive(name: str, folder: Path, runner: Runner) -> dict[str, object]:
    """Id -> result of all items; those in the store of `folder` are taken from there."""
    what = kind(name)
    with (
        contextlib.closing(ResultStore(folder / FILE, what.record)) as store,
        contextlib.closing(runner),
    ):
        run_jobs(what.jobs, lambda: what.items, store=store, runner=runner, in_flight=4, label=name, unit="items")
        return {item.id: store[item.id] for item in what.items}


if __name__ == "__main__":
    from tests.execution import drive as this  # by its name: workers of a cluster know no __main__ of ours

    name, folder, *address = sys.argv[1:]
    this.drive(name, Path(folder), this.on(address[0], name) if address else LocalRunner(this.Open(name)))

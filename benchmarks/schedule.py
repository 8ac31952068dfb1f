"""What waiting for others costs: the search fed continuously against lock-step waves, with short and with long-tailed answers.

    python -m benchmarks.schedule [trees]

A simulated engine (benchmarks/world.py) with 256 places and the clock of its own, so that nothing but the schedule counts. The
ideal schedule keeps all places busy from the first request to the last, seconds of all sequences / places, or takes as long as
the longest tree does alone, for the steps of one tree follow each other: the larger of the two. The lock-step driver
is for this comparison only: all trees in flight hand in their requests, wait until the last one is answered, and go on together.
"""

import sys
from collections.abc import Iterable
from typing import Any

from astro.execution.scheduler import Job, run_searches
from astro.execution.search_and_sample_jobs import SearchJobs
from astro.process import run_stage
from benchmarks.simulated_engine import SimulatedEngine
from benchmarks.world import Policy, problems, settings

SLOTS, IN_FLIGHT, TOKEN_S = 256, 512, 0.01
TREES = 6000
SIGMAS = (0.0, 0.5, 1.0, 1.5)


def lock_step(jobs: Iterable[tuple[str, Job]], *, engine: SimulatedEngine, in_flight: int) -> dict:
    """Waves: nobody goes on before everybody is answered. Trees that ended are replaced between two waves."""
    source = iter(jobs)
    running: dict[str, tuple[Job, list[Any]]] = {}
    done: dict[str, Any] = {}

    def advance(identifier: str, job: Job, answers: Any) -> None:
        try:
            running[identifier] = (job, job.send(answers))
        except StopIteration as stop:
            running.pop(identifier, None)
            done[identifier] = stop.value

    while True:
        while len(running) < in_flight and (pair := next(source, None)) is not None:
            advance(pair[0], pair[1], None)
        if not running:
            return done
        tickets = {
            engine.submit(request): (identifier, slot)
            for identifier, (_, wanted) in running.items()
            for slot, request in enumerate(wanted)
        }
        answers: dict[str, list[Any]] = {
            identifier: [None] * len(wanted) for identifier, (_, wanted) in running.items()
        }
        outstanding = len(tickets)
        while outstanding:
            for ticket, samples in engine.poll():
                identifier, slot = tickets[ticket]
                answers[identifier][slot] = samples
                outstanding -= 1
        for identifier, (job, _) in list(running.items()):
            advance(identifier, job, answers[identifier])


def measure(sigma: float, trees: int, *, in_flight: int = IN_FLIGHT, slots: int = SLOTS) -> tuple[float, float, bool]:
    """Share of the ideal schedule that (the feed, lock-step) reach, and whether they made the same trees."""

    def engine() -> SimulatedEngine:
        return SimulatedEngine(Policy(sigma), slots=slots, token_s=TOKEN_S, sleeps=False)

    jobs, fed, stepped = SearchJobs(settings(num_actions=4, rollouts_per_child=2), "countdown", 1), engine(), engine()
    one = dict(run_searches(map(jobs, problems(trees)), engine=fed, in_flight=in_flight))
    two = lock_step(map(jobs, problems(trees)), engine=stepped, in_flight=in_flight)
    ideal = max(fed.busy_s / slots, longest(jobs, trees, sigma))
    return ideal / fed.now, ideal / stepped.now, one == two


def longest(jobs: SearchJobs, trees: int, sigma: float) -> float:
    """Seconds of the longest tree, alone on an engine with room for all it wants at once."""
    found = 0.0
    for problem in problems(trees):
        engine = SimulatedEngine(Policy(sigma), slots=64, token_s=TOKEN_S, sleeps=False)
        list(run_searches([jobs(problem)], engine=engine, in_flight=1))
        found = max(found, engine.now)
    return found


def main() -> None:
    """A line per distribution."""
    trees = int(sys.argv[1]) if len(sys.argv) > 1 else TREES
    print(f"{trees} trees, {IN_FLIGHT} in flight, {SLOTS} places; share of the ideal schedule")
    print("sigma of log-normal lengths   continuous   lock-step   same trees")
    for sigma in SIGMAS:
        fed, stepped, same = measure(sigma, trees)
        print(f"{sigma:27.1f}   {fed:10.1%}   {stepped:9.1%}   {same}", flush=True)


if __name__ == "__main__":
    run_stage(main)

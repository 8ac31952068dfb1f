"""The engine whose answers take time, and what a schedule without a barrier is worth on it."""

import time

import pytest

from astro.execution.scheduler import generate, run_searches
from astro.execution.search_and_sample_jobs import SearchJobs
from astro.inference.engine import EngineError, Request
from astro.search import Sample
from benchmarks.schedule import measure
from benchmarks.simulated_engine import SimulatedEngine
from benchmarks.world import Open, problems, settings


def lengths(request):
    """A request for sequences of so many tokens, as its prompt says."""
    return [Sample("", 0.0, int(n), True) for n in request.prompt.split()]


def request(prompt):
    return Request(prompt, len(prompt.split()), 99, 1.0, (), 0, False)


def engine(slots, sleeps=False):
    return SimulatedEngine(lengths, slots=slots, token_s=0.01, sleeps=sleeps)


# sequences of each request, places, when each request is answered (seconds)
SCHEDULES = [
    (["3", "1", "2"], 3, [0.03, 0.01, 0.02]),  # room for all
    (["3", "1", "2"], 1, [0.03, 0.04, 0.06]),  # one after the other
    (["3", "1", "2"], 2, [0.03, 0.01, 0.03]),  # the third takes the place of the second
    (["3 1", "1"], 2, [0.03, 0.02]),  # a request is answered when its last sequence is
]


@pytest.mark.parametrize(("prompts", "slots", "expected"), SCHEDULES)
def test_sequences_take_places_in_order(prompts, slots, expected):
    one = engine(slots)
    tickets = [one.submit(request(p)) for p in prompts]
    answered = {}
    while len(answered) < len(tickets):
        for ticket, _ in one.poll():
            answered[ticket] = one.now
    assert [answered[t] for t in tickets] == pytest.approx(expected)
    assert one.busy_s == pytest.approx(0.01 * sum(int(n) for p in prompts for n in p.split()))


def test_a_sleeping_engine_takes_real_time():
    one, began = engine(2, sleeps=True), time.monotonic()
    generate([request("5"), request("5"), request("5")], engine=one, concurrency=9)
    assert 0.09 < time.monotonic() - began < 2.0


def test_what_is_not_outstanding_is_not_answered():
    one = engine(1)
    with pytest.raises(EngineError, match="nothing is outstanding"):
        one.poll()
    one.submit(request("1"))
    one.close()
    with pytest.raises(EngineError, match="closed"):
        one.submit(request("1"))


def test_without_a_barrier_the_engine_stays_full_where_waves_wait():
    """Long-tailed lengths: the issue asks for 90 % of the ideal schedule, where lock-step loses 25 % or more."""
    fed, stepped, same = measure(1.0, 400, in_flight=64, slots=64)
    assert same
    assert fed >= 0.9
    assert stepped <= 0.75


def test_trees_do_not_depend_on_time():
    task = SearchJobs(settings(), "countdown", 1)
    trees = [
        dict(
            run_searches(map(task, problems(30)), engine=Open(slots=slots, sigma=1.0, sleeps=False)(), in_flight=flight)
        )
        for slots, flight in ((1, 1), (16, 8))
    ]
    assert trees[0] == trees[1]

"""Drivers: many searches over one engine, a list of requests in order, and the clock."""

import pickle
import time

import pytest

from astro.execution.scheduler import SearchError, TimedEngine, generate, run_searches
from astro.inference.engine import EngineError, Request
from astro.process import MachineFault, machine_fault
from astro.search import SearchConfig, search
from tests.scripted_engine import ScriptedEngine
from tests.search.world import World, judged, rendered

CONFIG = SearchConfig(num_actions=4, rollouts_per_child=3, num_simulations=6, max_depth=5, c_puct=1.0, prior="sequence")
WORLDS = {world.problem.id: world for world in (World(seed=0, goal=goal) for goal in range(1, 25))}


def next_tokens(text):
    """The policy of the world whose problem the text begins with."""
    return WORLDS[f"climb-{text.split(maxsplit=2)[1]}-0"].next_tokens(text)


def begin(world, *, judge=None, **changes):
    callables = {"is_terminal": world.is_terminal, "key": world.key} | changes
    return rendered(judged(search(world.problem, config=CONFIG, seed=0, **callables), judge or world.judge), world)


def searches():
    return [(name, begin(world)) for name, world in WORLDS.items()]


def run_all(engine, in_flight):
    return dict(run_searches(searches(), engine=engine, in_flight=in_flight))


@pytest.fixture(scope="module")
def one_by_one():
    """The trees of all problems, searched one after the other."""
    trees = run_all(ScriptedEngine(next_tokens), 1)
    assert set(trees) == set(WORLDS)
    return trees


@pytest.mark.parametrize("in_flight", [1, 7, 64])  # one; fewer than problems; more than problems
@pytest.mark.parametrize("order_seed", [None, 0, 1])  # answers in order; out of order in two ways
def test_trees_do_not_depend_on_scheduling(one_by_one, in_flight, order_seed):
    assert run_all(ScriptedEngine(next_tokens, order_seed=order_seed), in_flight) == one_by_one


def test_there_is_no_barrier_between_trees():
    """With uneven answers trees end in another order than they began in, long before all have begun."""
    begun = []

    def lazily():
        for name, one in searches():
            begun.append(name)
            yield name, one

    running = run_searches(lazily(), engine=ScriptedEngine(next_tokens, order_seed=3), in_flight=4)
    assert begun == []
    first, _ = next(running)
    assert 4 <= len(begun) < 12
    rest = [name for name, _ in running]
    assert [first, *rest] != begun
    assert sorted([first, *rest]) == sorted(begun)


class Watched(ScriptedEngine):
    """Notes how much is outstanding at each poll."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.polls = []

    def poll(self):
        self.polls.append([(r.prompt.split("\n")[0], r.n) for r in self._outstanding.values()])
        return super().poll()


def test_in_flight_bounds_the_trees_in_the_engine():
    engine = Watched(next_tokens, order_seed=5)
    run_all(engine, 7)
    trees = [len({prompt for prompt, _ in poll}) for poll in engine.polls]
    assert max(trees) == 7


def test_a_search_that_asks_for_nothing_is_not_waited_for():
    tree = run_all(ScriptedEngine(next_tokens), 1)["climb-1-0"]

    def idle():
        yield []
        return tree

    done = list(run_searches([("idle", idle())], engine=ScriptedEngine(next_tokens), in_flight=1))
    assert done == [("idle", tree)]


def broken(*_):
    raise KeyError("no such thing")


@pytest.mark.parametrize("part", ["is_terminal", "judge", "key"])
def test_a_failing_search_names_its_problem(part):
    pairs = searches()
    pairs[5] = (pairs[5][0], begin(WORLDS[pairs[5][0]], **{part: broken}))
    with pytest.raises(SearchError, match=r"'climb-6-0'.*KeyError.*no such thing") as caught:
        list(run_searches(pairs, engine=ScriptedEngine(next_tokens), in_flight=7))
    assert caught.value.item_id == "climb-6-0"
    assert isinstance(caught.value.__cause__, KeyError)


def test_searches_are_closed_when_the_consumer_stops():
    pairs = searches()[:3]
    running = run_searches(pairs, engine=ScriptedEngine(next_tokens, order_seed=0), in_flight=3)
    next(running)
    running.close()
    assert [one.gi_frame for _, one in pairs] == [None] * 3  # a closed generator has no frame


class Failing(ScriptedEngine):
    """Fails at the third poll."""

    polls = 0

    def poll(self):
        self.polls += 1
        if self.polls == 3:
            raise EngineError("out of memory")
        return super().poll()


class Confused(ScriptedEngine):
    """Answers tickets that it never gave."""

    def poll(self):
        return [(ticket + 1000, samples) for ticket, samples in super().poll()]


@pytest.mark.parametrize(("engine", "message"), [(Failing, "out of memory"), (Confused, "not pending")])
def test_an_engine_that_fails_ends_every_driver(engine, message):
    with pytest.raises(EngineError, match=message):
        run_all(engine(next_tokens), 7)
    with pytest.raises(EngineError, match=message):
        generate(requests([1] * 5), engine=engine(next_tokens), concurrency=1)


def requests(sizes):
    """One request per size n, distinguishable by goal and seed."""
    return [
        Request(
            prompt=f"climb {i % 20 + 1}\n", n=n, max_tokens=16, temperature=1.0, stop=(), seed=i * 1000, logprobs=False
        )
        for i, n in enumerate(sizes)
    ]


SIZES = [3, 1, 4, 1, 5, 2, 6, 5, 3, 5, 1, 1, 8, 2]


@pytest.mark.parametrize("concurrency", [1, 8, 9, 1000])  # below every n; the largest n; just above; all at once
def test_generate_keeps_order_and_bound(concurrency):
    wanted = requests(SIZES)
    alone = [generate([request], engine=ScriptedEngine(next_tokens), concurrency=1)[0] for request in wanted]
    assert [len(samples) for samples in alone] == SIZES
    engine = Watched(next_tokens, order_seed=2)
    assert generate(wanted, engine=engine, concurrency=concurrency) == alone
    for poll in engine.polls:
        sequences = [n for _, n in poll]
        assert sum(sequences) <= concurrency or len(sequences) == 1  # a request above the bound goes by itself
    # and it fills the engine as far as it may
    assert max(len(poll) for poll in engine.polls) == {1: 1, 8: 3, 9: 4, 1000: 14}[concurrency]


def test_generate_reports_progress_up_to_the_end():
    seen = []
    generate(requests(SIZES), engine=ScriptedEngine(next_tokens, order_seed=0), concurrency=8, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == len(SIZES)
    assert generate([], engine=ScriptedEngine(next_tokens), concurrency=8, progress=broken) == []


def test_bounds_below_one_are_refused():
    with pytest.raises(ValueError, match="in_flight must be at least 1, not 0"):
        run_all(ScriptedEngine(next_tokens), 0)
    with pytest.raises(ValueError, match="concurrency must be at least 1, not 0"):
        generate([], engine=ScriptedEngine(next_tokens), concurrency=0)


class Slow(ScriptedEngine):
    """Takes 10 ms per poll."""

    def poll(self):
        time.sleep(0.01)
        return super().poll()


def test_the_clock_counts_the_time_inside_the_engine_alone():
    inner = Slow(next_tokens)
    timed = TimedEngine(inner)
    generate(requests([1] * 5), engine=timed, concurrency=1)
    inside = timed.seconds
    assert inside >= 5 * 0.01
    time.sleep(0.02)
    assert timed.seconds == inside
    timed.close()
    with pytest.raises(EngineError, match="closed"):
        inner.submit(requests([1])[0])


def test_a_failure_crosses_processes_with_its_cause():
    """What ends the stage looks for a fault of the machine in the chain of causes."""
    again = pickle.loads(pickle.dumps(SearchError("p1", MachineFault("no worker starts"))))
    assert (again.item_id, str(again)) == ("p1", "work on 'p1' failed: MachineFault: no worker starts")
    assert str(machine_fault(again)) == "no worker starts"

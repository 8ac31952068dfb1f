"""Several processes behind one queue: the answers of one engine, and no process that is left behind."""

import os
import signal
import time
from functools import partial

import psutil
import pytest

from astro.execution.scheduler import generate
from astro.inference.engine import EngineError, Request
from astro.inference.process_pool import PoolEngine, end_idle
from tests.scripted_engine import ScriptedEngine
from tests.search.world import World

WORLD = World(seed=0, goal=12)
THREADS = "OMP_NUM_THREADS"


def request(seed: int, n: int = 2, prompt: str = "climb 12\n") -> Request:
    return Request(prompt=prompt, n=n, max_tokens=20, temperature=1.0, stop=(), seed=seed, logprobs=True)


def say_threads(text: str) -> dict[str, float]:
    """A policy that says the variable of its own process, and ends."""
    return {"": 1.0} if "threads" in text else {f"threads {os.environ[THREADS]}": 1.0}


def broken(*_):
    raise EngineError("no such model")


def raises(text: str):
    raise EngineError("it fell over")


@pytest.fixture
def pool():
    """Opens pools, and closes them."""
    opened = []

    def make(policy=WORLD.next_tokens, processes=2):
        opened.append(PoolEngine(partial(ScriptedEngine, policy), processes))
        return opened[-1]

    yield make
    for one in opened:
        one.close()
    end_idle()


def children() -> list[psutil.Process]:
    """Engine processes: those that multiprocessing spawned. Earlier tests may have left servers of their own kinds."""
    return [p for p in psutil.Process().children() if "multiprocessing.spawn" in " ".join(p.cmdline())]


def test_answers_are_those_of_one_engine(pool):
    requests = [request(10 * i, n=1 + i % 3, prompt="climb 12\n" + "+1\n" * (i % 4)) for i in range(60)]
    alone = generate(requests, engine=ScriptedEngine(WORLD.next_tokens), concurrency=16)
    engine = pool()
    assert generate(requests, engine=engine, concurrency=16) == alone
    engine.reset_prefix_cache()
    assert generate(requests, engine=engine, concurrency=500) == alone


def test_more_than_a_pipe_holds_is_taken(pool):
    """Neither side may wait for the other to read: 4 MB of prompts stand in the queue before the first poll."""
    requests = [request(i, n=1, prompt="climb 12\n" + "um " * 700) for i in range(2000)]
    answers = generate(requests, engine=pool(), concurrency=10_000)
    assert len({samples[0].text for samples in answers}) == 1
    assert answers[0][0].tokens == 20


def test_processes_share_the_cores_and_the_work(pool, monkeypatch):
    monkeypatch.setenv(THREADS, "7")
    engine = pool(say_threads, processes=3)
    assert os.environ[THREADS] == "7"
    assert len(children()) == 3
    tickets = [engine.submit(request(i, n=i + 1)) for i in range(4)]
    assert [engine._owner[t][0] for t in tickets] == [0, 1, 2, 0]  # the fewest outstanding samples first
    answers = {}
    while len(answers) < 4:
        answers |= dict(engine.poll())
    assert {s.text for samples in answers.values() for s in samples} == {"threads 2"}
    engine.close()
    engine.close()
    end_idle()
    assert children() == []
    with pytest.raises(EngineError, match="closed"):
        engine.submit(request(1))


def test_an_engine_that_does_not_start_says_why():
    with pytest.raises(EngineError, match="no such model"):
        PoolEngine(broken, 2)
    assert children() == []


def test_the_next_engine_takes_the_processes_over(pool):
    first = pool()
    before = {c.pid for c in children()}
    tickets = [first.submit(request(i, n=50)) for i in range(40)]
    first.close()  # with requests outstanding
    second = pool(say_threads)
    assert {c.pid for c in children()} == before
    assert second.submit(request(1)) == tickets[0]
    assert [ticket for ticket, _ in second.poll()] == [tickets[0]], "no answer of the first engine is left"
    second.close()
    for child in children():
        os.kill(child.pid, signal.SIGKILL)
        while child.status() != psutil.STATUS_ZOMBIE:  # not waited for: that is the parent's to do
            time.sleep(0.01)
    third = pool()  # processes that died meanwhile are replaced
    third.submit(request(1))
    assert len(third.poll()) == 1
    assert not {c.pid for c in children()} & before


def test_an_engine_that_fails_says_why(pool):
    engine = pool(raises)
    engine.submit(request(1))
    with pytest.raises(EngineError, match="it fell over"):
        engine.poll()
    with pytest.raises(EngineError, match="it fell over"):
        engine.submit(request(2))


def test_a_killed_process_is_an_error_and_not_a_hang(pool):
    engine = pool()
    with pytest.raises(EngineError, match="nothing is outstanding"):
        engine.poll()
    for child in children():
        os.kill(child.pid, signal.SIGKILL)
    engine_is_used = partial(generate, [request(i) for i in range(100)], engine=engine, concurrency=1)
    with pytest.raises(EngineError, match=r"ended unexpectedly \(exit code -9\)"):
        engine_is_used()

"""One way to run jobs: what is stored is not done again, whatever ended the run before."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from astro.execution import scheduler
from astro.execution.job_runner import LocalRunner, Meter, run_jobs
from astro.execution.result_store import FILE, ResultStore
from astro.execution.scheduler import SearchError, TimedEngine, run_searches
from astro.execution.search_and_sample_jobs import Answers, SampleJobs, SearchJobs
from astro.inference.engine import EngineError, Request
from astro.process import UserError
from benchmarks.simulated_engine import SimulatedEngine
from benchmarks.world import Open, Policy, problems, settings, stored
from tests.execution import drive
from tests.scripted_engine import ScriptedEngine

SAMPLES = SampleJobs("countdown", 1, "pass rate", 4, 99, 1.0)


def ran(jobs, folder, *, count=12, engine=None, record=Answers, in_flight=3, **more):
    """Results of the first problems, in order."""
    with contextlib.closing(ResultStore(folder / FILE, record)) as store:
        runner = LocalRunner(engine or Open(sleeps=False))
        run_jobs(
            jobs,
            lambda: problems(count),
            store=store,
            runner=runner,
            in_flight=in_flight,
            label="eval",
            unit="problems",
            **more,
        )
        return [store[p.id] for p in problems(count)]


def test_a_longer_run_does_what_is_new_only_and_tells_what_is_there(tmp_path, capsys):
    (tmp_path / "whole").mkdir()
    whole = ran(SAMPLES, tmp_path / "whole", count=20)
    assert "resumes" not in capsys.readouterr().out
    ran(SAMPLES, tmp_path)
    notes = []
    assert ran(SAMPLES, tmp_path, count=20, note=lambda *seen: notes.append(seen) or "fine") == whole
    said = capsys.readouterr().out
    assert "[eval] resumes: 12 of 20 problems are kept from an interrupted run" in said
    assert "[eval] 20/20," in said
    assert said.endswith("0 s left, fine\n")
    assert [(done, total) for _, done, total in notes] == [(done, 20) for done in range(13, 21)]


def test_no_engine_is_opened_where_everything_is_there(tmp_path):
    first = ran(SAMPLES, tmp_path)

    def none():
        raise AssertionError("was to be read")

    assert ran(SAMPLES, tmp_path, engine=none) == first


def test_an_engine_serves_one_run_after_the_other(tmp_path):
    """As votes and rewrites do: it is opened once."""
    opened = []

    def engine():
        opened.append(Open(sleeps=False)())
        return opened[-1]

    runner = LocalRunner(engine)
    for name in ("a", "b"):
        with contextlib.closing(ResultStore(tmp_path / name, Answers)) as store:
            run_jobs(SAMPLES, lambda: problems(4), store=store, runner=runner, in_flight=2, label="x", unit="y")
    assert len(opened) == 1
    runner.close()
    with pytest.raises(EngineError, match="closed"):
        opened[0].submit(Request("make 3 from 1 2\n", 1, 9, 1.0, (), 0, False))


def test_a_full_disk_ends_the_run_and_what_was_stored_is_kept(tmp_path, monkeypatch):
    add, left = ResultStore.add, iter(range(5))

    def full(store, identifier, record):
        if next(left, None) is None:
            raise OSError(28, "No space left on device", str(store.path))
        add(store, identifier, record)

    monkeypatch.setattr(ResultStore, "add", full)
    with pytest.raises(
        UserError, match=r"No space left on device \(\S+sqlite\); 5 finished problems are kept for the next run"
    ):
        ran(SAMPLES, tmp_path)
    assert stored(tmp_path / FILE) == 5


# --- killed ------------------------------------------------------------------------------------------------------------


def killed(name: str, folder: Path, *address: str) -> int:
    """Results that a process has stored when it is killed in the middle."""
    folder.mkdir()
    process = subprocess.Popen([sys.executable, "-m", "tests.execution.drive", name, str(folder), *address])
    until = time.monotonic() + 120
    while stored(folder / FILE) < 5 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.wait()
    there = stored(folder / FILE)
    assert 5 <= there < len(drive.kind(name).items)
    return there


KINDS = ["votes", "rewrites", "pass rates", "eval", "search"]


@pytest.mark.parametrize("name", KINDS)
def test_a_killed_run_goes_on_item_by_item(name, tmp_path, capsys):
    """The results are those of a run that nothing disturbs, and nothing that was stored is asked for again."""
    (tmp_path / "whole").mkdir()
    expected = drive.drive(name, tmp_path / "whole", LocalRunner(drive.Open(name, token_s=0.0)))
    there = killed(name, tmp_path / "killed")
    begun = []

    class Noting(LocalRunner):
        def run(self, jobs, items, **more):
            return super().run(jobs, (begun.append(item.id) or item for item in items), **more)

    assert drive.drive(name, tmp_path / "killed", Noting(drive.Open(name, token_s=0.0))) == expected
    assert f"resumes: {there} of {len(expected)} items" in capsys.readouterr().out
    assert len(begun) == len(set(begun)) == len(expected) - there


@pytest.mark.slow
@pytest.mark.parametrize("name", ["votes", "rewrites"])
def test_a_killed_run_goes_on_item_by_item_on_a_cluster(name, tmp_path, two_nodes, capsys):
    """Two nodes, joined by address; the driver is killed, and the next one ends with the results of this machine alone."""
    (tmp_path / "whole").mkdir()
    expected = drive.drive(name, tmp_path / "whole", LocalRunner(drive.Open(name, token_s=0.0)))
    there = killed(name, tmp_path / "killed", two_nodes.address)
    assert drive.drive(name, tmp_path / "killed", drive.on(two_nodes.address, name)) == expected
    assert f"resumes: {there} of {len(expected)} items" in capsys.readouterr().out


@pytest.fixture(scope="module")
def two_nodes() -> Iterator:
    """A Ray cluster of two nodes with one core each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


# --- grading off the engine's thread -----------------------------------------------------------------------------------


class SlowTask:
    """Grades like Countdown, off the engine's thread, and takes its time for each answer."""

    def __init__(self, inner, seconds):
        self.inner, self.seconds, self.grades_inline = inner, seconds, False
        self.threads = set()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def grade_many(self, asked, texts):
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds * len(texts))
        return self.inner.grade_many(asked, texts)


def slowed(jobs, seconds):
    """A jobs whose task grades slowly."""
    jobs.__dict__["_task"] = SlowTask(jobs._task, seconds)
    return jobs


def searched(engine, jobs, count=60, in_flight=60):
    timed = TimedEngine(engine)
    began = time.monotonic()
    found = dict(run_searches(map(jobs, problems(count)), engine=timed, in_flight=in_flight, grade=jobs.grade))
    return found, timed.seconds / (time.monotonic() - began)


def test_trees_are_the_same_wherever_they_are_graded():
    inline, _ = searched(Open(sleeps=False)(), SearchJobs(settings(), "countdown", 1))
    jobs = slowed(SearchJobs(settings(), "countdown", 1), 0.0)
    assert searched(Open(sleeps=False)(), jobs)[0] == inline
    assert threading.get_ident() not in jobs._task.threads


@pytest.mark.slow
def test_the_engine_works_on_while_answers_are_graded():
    """20 ms for each answer. Graded on the engine's thread they would take longer than the engine itself; so it is at work for
    95 % of the time, and its places are nearly as full as without grading."""

    def busy(jobs):
        engine = SimulatedEngine(Policy(), slots=16, token_s=0.01, sleeps=True)
        trees, share = searched(engine, jobs)
        return trees, share, engine.busy_s / 16 / engine.now

    quick, _, most = busy(SearchJobs(settings(), "countdown", 1))
    trees, share, slots = busy(slowed(SearchJobs(settings(), "countdown", 1), 0.02))
    answers = sum(len(n.rollouts) + (n.answer is not None) for t in trees.values() for n in t.nodes)
    print(
        f"{answers} answers; engine's share of wall time {share:.1%}; slots {slots:.1%} busy, {most:.1%} without grading"
    )
    assert trees == quick
    assert share >= 0.95
    assert slots >= 0.9 * most


class GraderGoneError(RuntimeError):
    """The pool cannot start a process."""


@dataclass
class Broken:
    """A task whose grader fails for one problem, once or always."""

    inner: object
    bad: str
    times: int
    grades_inline: bool = False

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def grade_many(self, asked, texts):
        if any(p.id == self.bad for p in asked) and self.times:
            self.times -= 1
            raise GraderGoneError("no process can be started")
        return self.inner.grade_many(asked, texts)


def test_a_fault_of_the_grader_fails_its_item_and_is_no_verdict(tmp_path):
    jobs = SampleJobs("countdown", 1, "pass rate", 4, 99, 1.0)
    jobs.__dict__["_task"] = Broken(jobs._task, "s7", 99)
    with pytest.raises(SearchError, match=r"work on 's7' failed: GraderGoneError: no process can be started") as caught:
        ran(jobs, tmp_path, in_flight=12)
    assert isinstance(caught.value.cause, GraderGoneError)
    with contextlib.closing(ResultStore(tmp_path / FILE, Answers)) as store:
        assert "s7" not in store
    whole = ran(SAMPLES, tmp_path)  # the machine is well again
    (tmp_path / "other").mkdir()
    assert whole == ran(SAMPLES, tmp_path / "other")


def test_a_fault_that_passes_costs_nothing(tmp_path):
    """A batch that fails is graded once more, one by one."""
    jobs = SampleJobs("countdown", 1, "pass rate", 4, 99, 1.0)
    jobs.__dict__["_task"] = Broken(jobs._task, "s7", 1)
    assert ran(jobs, tmp_path, in_flight=12) == ran(SAMPLES, tmp_path)


def test_what_nobody_grades_is_told():
    def job():
        yield ["a text"]

    with pytest.raises(SearchError, match="nobody grades 'a text'"):
        list(run_searches([("x", job())], engine=ScriptedEngine(lambda _: {"": 1.0}), in_flight=1))


def test_graders_end_with_their_run():
    before = threading.active_count()
    jobs = slowed(SearchJobs(settings(), "countdown", 1), 0.0)
    searched(Open(sleeps=False)(), jobs, count=4)
    until = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert scheduler.GRADERS > 1


def test_the_meter_is_kept(tmp_path):
    meter = Meter()
    ran(SAMPLES, tmp_path, engine=Open(token_s=0.0005), meter=meter)
    assert 0 < meter.engine_s <= meter.worker_s
    assert meter.busy > 0.5

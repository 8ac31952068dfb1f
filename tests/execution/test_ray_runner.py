"""The Ray runner on real clusters on this machine: several nodes, some of which do not survive."""

import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from astro.execution import ray_runner
from astro.execution.job_runner import LocalRunner, Meter
from astro.execution.ray_runner import RayRunner, connect
from astro.execution.scheduler import SearchError
from astro.execution.search_and_sample_jobs import SampleJobs, SearchJobs
from astro.inference.engine import EngineError
from benchmarks.world import Open, problems, settings
from schemas.execution import RayParams

pytestmark = pytest.mark.slow
TASK = SearchJobs(settings(), "countdown", 1)
COUNT = 60
NODES = 3


@pytest.fixture(scope="module")
def cluster():
    """Three nodes with one core each (and a head without any), to be joined by address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # for `benchmarks`, which does not travel
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(NODES):
            made.add_node(num_cpus=1)
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def expected():
    """The trees of one engine on this machine."""
    return here(TASK, COUNT)


def here(jobs, count):
    """Results of this machine alone."""
    runner = LocalRunner(Open(sleeps=False))
    return dict(runner.run(jobs, problems(count), total=count, in_flight=8, meter=Meter()))


def on(cluster, *, opened=None, jobs=TASK, count=COUNT, in_flight=4, meter=None, workers=0):
    """Yields (problem id, tree)."""
    ray = RayParams(address=cluster.address, workers=workers, wait_timeout_s=240.0)
    runner = RayRunner(opened or Open(slots=4, token_s=0.004), settings=ray, gpus=1)  # it has none: not asked for
    return runner.run(jobs, problems(count), total=count, in_flight=in_flight, meter=meter or Meter())


def workers(*nodes):
    """Processes of the actors on these nodes. A node's daemon is the parent of its workers; those of other clusters on this
    machine do not count."""
    daemons = {info.process.pid for node in nodes for info in node.all_processes["raylet"]}
    named = [p for p in psutil.process_iter(["cmdline", "ppid"]) if p.info["cmdline"]]
    return [p for p in named if p.info["cmdline"][0].startswith("ray::Worker") and p.info["ppid"] in daemons]


def require_gone(processes, *, limit_s=30.0):
    """They end by themselves, soon after the driver has left.

    The driver does not wait for that: Ray ends the workers of a job when it hears that the job is over. A worker that has lost
    its node looks every second whether the node's daemon lives.
    """
    began = time.monotonic()
    _, alive = psutil.wait_procs(processes, timeout=limit_s)
    print(f"{len(processes)} left at the end of the run, gone after {time.monotonic() - began:.2f} s")
    assert alive == []


@dataclass(frozen=True)
class Together:
    """Opens an engine when as many workers have come: a slow machine starts one long after another."""

    folder: Path
    count: int

    def __call__(self):
        (self.folder / str(os.getpid())).touch()
        until = time.monotonic() + 120
        while len(list(self.folder.iterdir())) < self.count and time.monotonic() < until:
            time.sleep(0.05)
        return Open(slots=4, token_s=0.004)()


def test_a_lost_worker_and_a_lost_node_do_not_show_in_the_trees(cluster, expected, tmp_path):
    """A process dies of SIGKILL, then a whole node of it; every problem has one tree, and the same."""
    meter, found, seen = Meter(), [], 0
    kept, orphans = cluster.list_all_nodes(), []
    extra = cluster.add_node(num_cpus=1)
    for identifier, tree in on(cluster, opened=Together(tmp_path, NODES + 1), meter=meter):
        found.append((identifier, tree))
        seen = max(seen, meter.workers)
        if len(found) == 8:  # not the one whose node goes next
            next(iter(workers(*kept))).send_signal(signal.SIGKILL)
        if len(found) == 24:
            orphans = workers(extra)
            assert orphans
            cluster.remove_node(extra, allow_graceful=False)
    assert Counter(identifier for identifier, _ in found) == Counter(expected.keys())
    assert dict(found) == expected
    assert seen > 1
    assert meter.lost >= 2
    require_gone([p for p in orphans if p.is_running()] + workers(*kept))


def test_completions_are_asked_for_on_a_cluster_too(cluster):
    """What eval and the pass-rate filter of grpo do."""
    jobs = SampleJobs("countdown", 1, "pass rate", 4, 99, 1.0)
    expected = here(jobs, 6)
    assert dict(on(cluster, jobs=jobs, count=6, workers=1)) == expected
    assert {len(answers.samples) for answers in expected.values()} == {4}


def test_a_task_of_ones_own_travels_with_the_files_that_it_imports(cluster, tmp_path, monkeypatch):
    """The nodes were started in another folder, so they have none of its files."""
    monkeypatch.chdir(tmp_path)
    Path("tasks").mkdir()
    Path("tasks/signs.py").write_text("def multiplies(text):\n    return '*' in text\n")
    Path("tasks/mine.py").write_text(
        "from signs import multiplies\n"
        "from astro.tasks import Task\n"
        "class Multiplies(Task):\n"
        "    answer_mark = 'answer '\n"
        "    def score(self, problem, answer):\n"
        "        return multiplies(answer)\n"
    )
    jobs = SampleJobs("tasks/mine.py", 1, "pass rate", 2, 99, 1.0)
    expected = here(jobs, 6)
    assert {sample.verdict for answers in expected.values() for sample in answers.samples} == {"correct", "wrong"}
    assert dict(on(cluster, jobs=jobs, count=6, workers=1)) == expected


def test_an_engine_that_cannot_be_opened_is_told(cluster):
    with pytest.raises(EngineError, match="no such model"):
        list(on(cluster, opened=Unopened(), count=3, workers=1))


@dataclass(frozen=True)
class Unopened:
    def __call__(self):
        raise EngineError("no such model")


@dataclass(frozen=True)
class Fatal:
    """An engine whose process is killed at its first answer, as the out-of-memory killer does it."""

    def __call__(self):
        engine = Open()()
        engine.poll = lambda: os.kill(os.getpid(), signal.SIGKILL)
        return engine


def test_workers_that_die_again_and_again_end_the_run(cluster, monkeypatch):
    monkeypatch.setattr(ray_runner, "LOSSES", 2)
    with pytest.raises(
        EngineError, match=r"workers in a row were lost without a result; the last one was working on s\d"
    ):
        list(on(cluster, opened=Fatal(), count=3, workers=1))


def test_a_search_that_fails_names_its_problem(cluster):
    jobs = SearchJobs(settings(), "chess", 1)
    with pytest.raises((SearchError, ValueError), match="chess"):
        list(on(cluster, jobs=jobs, count=3, workers=1))


# address, what is said
ADDRESSES = [
    (
        "127.0.0.1:9",
        r"execution\.ray\.address 127\.0\.0\.1:9: no Ray cluster answers .*refused",
    ),  # the discard port: nobody listens
    ("127.0.0.1", r'execution\.ray\.address 127\.0\.0\.1: .*expected "host:port"'),
    ("ray://127.0.0.1:10001", r'expected "host:port"'),
]


@pytest.mark.parametrize(("address", "said"), ADDRESSES)
def test_an_address_without_a_cluster_is_told_at_once(address, said):
    with pytest.raises(EngineError, match=said):
        connect(RayParams(address=address, workers=1, wait_timeout_s=5.0))

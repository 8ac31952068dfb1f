"""A hundred thousand problems through the local runner: is memory flat, are the shards right, does a killed run go on?

    python -m benchmarks.many [problems]

The driver is killed (SIGKILL) when it has two fifths, started again, and then publishes. It has what stages/mcts.py is made of:
problems read from a file, search tasks, the result store; the engine is simulated and takes no time. Memory is the driver's
resident size, every twentieth of the way.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from astro.execution.job_runner import LocalRunner, run_jobs
from astro.execution.result_store import FILE, ResultStore, write_shards
from astro.execution.search_and_sample_jobs import SearchJobs
from astro.files import read_jsonl, read_shards, write_jsonl
from astro.process import UserError, run_stage
from astro.search.stats import tree_metrics
from benchmarks.world import Open, problems, settings, stored
from schemas.records import Problem, Tree

DEFAULT, SHARDS, IN_FLIGHT = 100_000, 16, 64
KILL_AT = 0.4


def drive(folder: Path, count: int) -> None:
    """Search what the store does not hold, tell the memory on the way, publish."""
    store, runner = ResultStore(folder / FILE, Tree), LocalRunner(Open(slots=256, sleeps=False))
    found = len(store)
    print(f"starts with {found}, {memory():.0f} MB", flush=True)
    began = time.monotonic()

    def items() -> Iterator[Problem]:
        return read_jsonl(folder / "problems.jsonl", Problem)

    def note(_: Tree, done: int, total: int) -> str:
        if done % max(1, total // 20) == 0:
            rate = (done - found) / (time.monotonic() - began)
            print(f"{done:8d} trees, {memory():6.0f} MB, {rate:6.0f} trees/s", flush=True)
        return ""

    jobs = SearchJobs(settings(num_actions=2, num_simulations=2), "countdown", 1)
    run_jobs(jobs, items, store=store, runner=runner, in_flight=IN_FLIGHT, label="many", unit="trees", note=note)
    write_shards(folder / "trees", store.lines(p.id for p in items()), count=count, shards=SHARDS)
    print(f"published, {memory():.0f} MB", flush=True)


def memory() -> float:
    """Resident size of this process, MB."""
    return psutil.Process().memory_info().rss / 2**20


def check(folder: Path, count: int) -> None:
    """Every problem once, in its order, over the shards.

    Raises:
        UserError: it is not so.
    """
    trees = read_shards(folder / "trees", Tree)
    wrong = sum(
        t.problem.id != p.id for t, p in zip(trees, read_jsonl(folder / "problems.jsonl", Problem), strict=True)
    )
    if wrong:
        raise UserError(f"{wrong} of {count} trees are not where they belong")
    print(f"shards {len(list((folder / 'trees').glob('*.jsonl')))}, {count} trees, each problem once, in order")
    print(f"figures {tree_metrics(read_shards(folder / 'trees', Tree))}")


def main() -> None:
    """See the module's docstring."""
    if sys.argv[1:2] == ["drive"]:
        drive(Path(sys.argv[2]), int(sys.argv[3]))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    with tempfile.TemporaryDirectory(prefix="many-") as home:
        folder = Path(home)
        write_jsonl(folder / "problems.jsonl", problems(count))
        command = [sys.executable, "-m", "benchmarks.many", "drive", str(folder), str(count)]
        first = subprocess.Popen(command)
        while first.poll() is None and trees_in(folder) < KILL_AT * count:
            time.sleep(0.2)
        first.kill()
        first.wait()
        print(f"killed with {trees_in(folder)} trees", flush=True)
        subprocess.run(command, check=True)
        check(folder, count)


def trees_in(folder: Path) -> int:
    """Trees that the store of a process at work holds."""
    return stored(folder / FILE)


if __name__ == "__main__":
    run_stage(main)

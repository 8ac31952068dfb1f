"""A hundred thousand problems through the local runner: is memory flat, are the shards right, does a killed run go on?

    python -m benchmarks.many [problems]

The driver is killed (SIGKILL) when it has two fifths, started again, and then publishes. It has what stages/mcts.py is made of:
problems read from a file, search tasks, the spool; the engine is simulated and takes no time. Memory is the driver's resident
size, every twentieth of the way.
"""

import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import psutil

from astro.engines.running import Meter, run_here
from astro.engines.searches import SearchTask
from astro.engines.spool import Spool, count_ids
from astro.runtime import UserError, read_jsonl, read_shards, run_stage, write_jsonl
from astro.search.stats import tree_metrics
from benchmarks.world import Open, problems, settings
from schemas.records import Problem, Tree

DEFAULT, SHARDS, IN_FLIGHT = 100_000, 16, 64
KILL_AT = 0.4


def drive(folder: Path, count: int) -> None:
    """Search what the spool does not hold, tell the memory on the way, publish."""
    source = folder / "problems.jsonl"
    number_of = count_ids(source, Problem, limit=count)
    spool = Spool(folder, Tree, count=len(number_of), shards=SHARDS)
    spool.load(number_of, lambda tree: tree["problem"]["id"])
    print(f"begins with {spool.found}, {memory():.0f} MB", flush=True)
    found = run_here(
        SearchTask(settings(k=2, iterations=2), "countdown", 1),
        (p for p in islice(read_jsonl(source, Problem), count) if number_of[p.id] not in spool),
        open_engine=Open(slots=256, sleeps=False),
        in_flight=IN_FLIGHT,
        meter=Meter(),
    )
    began, before = time.monotonic(), spool.found
    for identifier, tree in found:
        spool.add(number_of[identifier], tree)
        if spool.found % max(1, count // 20) == 0:
            rate = (spool.found - before) / (time.monotonic() - began)
            print(f"{spool.found:8d} trees, {memory():6.0f} MB, {rate:6.0f} trees/s", flush=True)
    spool.publish(folder / "trees")
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
    """Trees that the spool holds, by its size: a tree takes about as much as the first one."""
    parts = list(folder.glob("*.part.jsonl"))
    if not parts:
        return 0
    with parts[0].open("rb") as file:
        lines = [len(line) for line in islice(file, 200)]
    return round(sum(os.path.getsize(p) for p in parts) / (sum(lines) / max(1, len(lines)))) if lines else 0


if __name__ == "__main__":
    run_stage(main)

"""The search as the stage mcts runs it: start and rate, with one engine process and with several that share the cores.

    python -m benchmarks.processes [trees] [processes ...]

Takes models/base and data/problems/train.jsonl of the workspace (make run first) and params.yaml. Each count ("auto" is one)
runs by itself in a new interpreter, through `stages.mcts.grow`, into a store in a temporary folder. The trees must be the same.
"""

import contextlib
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from astro.execution.result_store import FILE, ResultStore
from astro.inference.factory import count_processes
from astro.params import load_params
from astro.process import UserError, run_stage
from schemas.records import Tree
from stages.mcts import MODEL, grow, problems

DEFAULT_TREES, DEFAULT_PROCESSES = 450, ("1", "2", "auto")


def measure(trees: int, processes: str) -> None:
    """Search as the stage does. The last line printed is a JSON object with the figures."""
    params = load_params()
    execution = params.execution.model_copy(update={"processes": processes if processes == "auto" else int(processes)})
    mcts = params.mcts.model_copy(update={"problems": trees})
    changed = params.model_copy(update={"execution": execution, "mcts": mcts})
    here: Any = SimpleNamespace(params=changed, log=lambda *_, **__: None)  # what the search reads of a stage
    count = len(list(problems(here)))
    if count < trees:
        raise UserError(f"train.jsonl has {count} problems, but {trees} trees were requested")
    with (
        tempfile.TemporaryDirectory(prefix="processes-") as home,
        contextlib.closing(ResultStore(Path(home) / FILE, Tree)) as store,
    ):
        meter = grow(here, store)
        found = [store[p.id] for p in problems(here)]
    content = "".join(tree.model_dump_json() for tree in found).encode()
    figures = {
        "processes": count_processes(params.engine, execution, MODEL),
        "tokens": sum(tree.tokens for tree in found),
        "search_s": meter.worker_s,
        "trees": hashlib.sha256(content).hexdigest(),
    }
    print(json.dumps(figures), flush=True)


def main() -> None:
    """Print a line for each count."""
    if sys.argv[1:2] == ["measure"]:
        measure(int(sys.argv[2]), sys.argv[3])
        return
    trees = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_TREES
    made = set()
    print(f"{trees} trees\nprocesses   start and end   search   tokens/s in the search   tokens/s in all")
    for processes in sys.argv[2:] or DEFAULT_PROCESSES:
        began = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.processes", "measure", str(trees), processes]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        wall, row = time.perf_counter() - began, json.loads(result.stdout.splitlines()[-1])
        made.add(row["trees"])
        label = f"auto: {row['processes']}" if processes == "auto" else processes
        print(
            f"{label:9} {wall - row['search_s']:15.1f} s {row['search_s']:6.1f} s {row['tokens'] / row['search_s']:24.0f} "
            f"{row['tokens'] / wall:17.0f}",
            flush=True,
        )
    print(f"same trees: {len(made) == 1}")


if __name__ == "__main__":
    run_stage(main)

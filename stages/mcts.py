"""One search tree per train problem (paper section 2.2).

    python -m stages.mcts

Deviations from the paper: 3. a smaller budget by default (k, M and iterations are parameters); 4. duplicate actions are
merged, where the paper says nothing of them; 5. a new child counts as visited once, by its rollouts; 16. `mcts.method:
best_of_n` samples whole solutions instead, for the comparison that reviewers asked for; 18. rollouts can be used again as
children.
"""

import contextlib
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from astro.domains import Domain, get_domain
from astro.domains.chat import chat_for
from astro.engines.api import EngineError
from astro.engines.running import Meter, run_task
from astro.engines.searches import SearchTask
from astro.engines.spool import Spool, count_ids
from astro.gates import check_trees, require
from astro.runtime import Progress, UserError, read_jsonl, run_stage
from astro.search.stats import TreeFigures
from schemas.mcts import MctsMetrics
from schemas.records import ROOT, Problem, Tree
from stages.harness import METRICS, REPORTS, Stage, stage

OUT = Path("data/trees")
MODEL = Path("models/base")
PROBLEMS = Path("data/problems/train.jsonl")
LOG_S = 10.0
"""Progress goes to the console and to MLflow so often, seconds."""


class Pace:
    """How the search gets on, to the console and as curves to MLflow."""

    def __init__(self, s: Stage, meter: Meter, *, total: int, done: int) -> None:
        self._s, self._meter, self._total, self._start = s, meter, total, done
        self._progress = Progress("mcts", total, unit="trees", every=LOG_S, start=done)
        self._began = self._last = time.monotonic()
        self._trees = self._solved = self._tokens = 0

    def count(self, tree: Tree) -> None:
        """One more tree is there."""
        self._trees += 1
        self._solved += any(n.verdict == "correct" for n in tree.nodes)
        self._tokens += tree.tokens
        now, done = time.monotonic(), self._start + self._trees
        wall = now - self._began
        rate, busy = self._trees / wall, self._meter.busy
        note = f"{60 * rate:.0f} trees/min, {self._tokens / wall:.0f} tokens/s, {self._solved / self._trees:.0%} solved"
        workers = "" if self._s.params.execution.runner == "local" else f", {self._meter.workers} workers"
        self._progress.update(done, f"{note}, engines {busy:.1%} busy{workers}")
        if now - self._last < LOG_S and done < self._total:
            return
        self._last = now
        row = {"trees_per_min": 60 * rate, "tokens_per_s": self._tokens / wall, "solved": self._solved / self._trees}
        row |= {"minutes_left": (self._total - done) / rate / 60, "busy": busy, "workers": self._meter.workers}
        self._s.log({f"pace/{name}": value for name, value in row.items()}, step=done)


def grow(s: Stage, spool: Spool[Tree], number_of: dict[str, int]) -> None:
    """Search every problem that the spool does not hold yet."""
    if spool.found:
        print(
            f"[mcts] goes on: {spool.found} of {len(number_of)} trees are there from a run that was cut off", flush=True
        )
    missing = len(number_of) - spool.found
    if not missing:
        return
    domain, meter = get_domain(s.params.run.domain), Meter()
    pace = Pace(s, meter, total=len(number_of), done=spool.found)
    trees = run_task(
        SearchTask(s.params.mcts, s.params.run.domain, s.params.run.seed, chat_for(s.params.run.prompt, MODEL)),
        (p for p in islice(read_jsonl(PROBLEMS, Problem), s.params.mcts.problems) if number_of[p.id] not in spool),
        total=missing,
        engine=s.params.engine,
        execution=s.params.execution,
        model=MODEL,
        in_flight=s.params.execution.trees_in_flight,
        meter=meter,
    )
    with contextlib.closing(trees):
        for identifier, tree in trees:
            spool.add(number_of[identifier], with_checks(tree, domain))
            pace.count(tree)


def with_checks(tree: Tree, domain: Domain) -> Tree:
    """The tree with what the domain can check in each step; as it is, where the domain checks no steps."""
    checks = domain.checks(tree.problem, [node.text for node in tree.nodes[ROOT + 1 :]])
    if checks is None:
        return tree
    steps = zip(tree.nodes[ROOT + 1 :], checks, strict=True)
    return tree.model_copy(
        update={"nodes": [tree.nodes[ROOT], *(node.model_copy(update={"checks": check}) for node, check in steps)]}
    )


def counted(spool: Spool[Tree], figures: TreeFigures) -> Iterator[Tree]:
    """All trees, and their figures with them: they are read once."""
    for tree in spool:
        figures.add(tree)
        yield tree


def main() -> None:
    """Write data/trees/*.jsonl, in the order of the problems, however the search was scheduled or interrupted."""
    with stage("mcts") as s:
        number_of = count_ids(PROBLEMS, Problem, limit=s.params.mcts.problems)
        if not number_of:
            raise UserError(f"{PROBLEMS}: holds no problem")
        with s.work() as work:
            spool = Spool(work, Tree, count=len(number_of), shards=s.params.mcts.shards)
            spool.load(number_of, lambda tree: tree["problem"]["id"])
            try:
                grow(s, spool, number_of)
            except (EngineError, OSError) as error:
                raise UserError(f"{reason(error)}; {spool.found} finished trees are kept and will be used") from None
            finally:
                spool.close()
            figures = TreeFigures()
            gate = check_trees(counted(spool, figures), searched=s.params.mcts.method == "mcts")
            require(gate, METRICS / "gate_mcts.json", REPORTS / "data_docs")
            s.require_unchanged()
            spool.publish(OUT)
        s.finish(MctsMetrics(**figures.metrics()))


def reason(error: Exception) -> str:
    """What an error says; a full disk says where."""
    where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    return f"{error.strerror}{where}" if isinstance(error, OSError) and error.strerror else str(error)


if __name__ == "__main__":
    run_stage(main)

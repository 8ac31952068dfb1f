"""One search tree per train problem (paper section 2.2).

    python -m stages.mcts

Deviations from the paper: 3. a smaller budget by default (k, M and iterations are parameters); 4. duplicate actions are
merged, where the paper says nothing of them; 5. a new child counts as visited once, by its rollouts; 16. `mcts.method:
best_of_n` samples whole solutions instead, for the comparison that reviewers asked for.
"""

import time
from pathlib import Path

from astro.domains import get_domain
from astro.engines.api import EngineError
from astro.engines.feed import TimedEngine, run_searches
from astro.engines.opening import open_engine
from astro.engines.searches import searches_of
from astro.gates import check_trees, require
from astro.runtime import (
    Journal,
    Progress,
    UserError,
    atomic_path,
    clear_folder,
    read_jsonl,
    run_stage,
    work_folder,
    write_jsonl,
)
from astro.search.stats import tree_metrics
from schemas.mcts import MctsMetrics
from schemas.records import Problem, Tree
from stages.harness import METRICS, REPORTS, stage

OUT = Path("data/trees")
MODEL = Path("models/base")
PROBLEMS = Path("data/problems/train.jsonl")
CODE = ["stages/mcts.py", "astro/search", "astro/engines", "astro/domains"]


def grow(s, problems: list[Problem], journal: Journal) -> None:
    """Search every problem that the journal does not hold yet."""
    done = len(journal.done)
    known = {tree.problem.id for tree in journal.done}
    todo = [p for p in problems if p.id not in known]
    if done:
        print(f"[mcts] goes on: {done} of {len(problems)} trees are there from a run that was cut off", flush=True)
    if not todo:
        return
    searches, to_request = searches_of(
        todo, settings=s.params.mcts, domain=get_domain(s.params.run.domain), seed=s.params.run.seed
    )
    engine = TimedEngine(open_engine(s.params.engine, MODEL))
    progress = Progress("mcts", len(problems), unit="trees", start=done)
    began, solved, tokens = time.monotonic(), 0, 0
    try:
        trees = run_searches(searches, engine=engine, to_request=to_request, in_flight=s.params.mcts.trees_in_flight)
        for finished, (_, tree) in enumerate(trees, 1):
            journal.append(tree)
            journal.done.append(tree)
            solved += any(n.verdict == "correct" for n in tree.nodes)
            tokens += tree.tokens
            wall = time.monotonic() - began
            note = f"{solved / finished:.0%} solved, {tokens / wall:.0f} tokens/s, {engine.seconds / wall:.1%} of time in engine"
            progress.update(done + finished, note)
    finally:
        engine.close()


def main() -> None:
    """Write data/trees/*.jsonl, in the order of the problems, however the search was scheduled or interrupted."""
    with stage("mcts", "run", "engine", "mcts") as s:
        problems = list(read_jsonl(PROBLEMS, Problem))[: s.params.mcts.problems]
        if not problems:
            raise UserError(f"{PROBLEMS}: holds no problem")
        with work_folder("mcts", s.work_key([PROBLEMS, MODEL], CODE)) as work:
            journal = Journal(work / "trees.jsonl", Tree)
            try:
                grow(s, problems, journal)
            except EngineError as error:
                raise UserError(f"{error}; {len(journal.done)} finished trees are kept and will be used") from None
            finally:
                journal.close()
            by_problem = {tree.problem.id: tree for tree in journal.done}
            trees = [by_problem[p.id] for p in problems]
            gate = check_trees(trees, searched=s.params.mcts.method == "mcts")
            require(gate, METRICS / "gate_mcts.json", REPORTS / "data_docs")
            size = -(-len(trees) // s.params.mcts.shards)
            with atomic_path(OUT) as folder:
                for shard, at in enumerate(range(0, len(trees), size)):
                    write_jsonl(folder / f"{shard:05d}.jsonl", trees[at : at + size])
            clear_folder(work)
        s.finish(MctsMetrics(**tree_metrics(trees)))


if __name__ == "__main__":
    run_stage(main)

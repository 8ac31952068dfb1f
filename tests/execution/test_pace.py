"""How the search tells its pace: a note for the console, and curves for MLflow."""

from types import SimpleNamespace

from astro.execution.job_runner import Meter
from astro.execution.scheduler import run_searches
from astro.execution.search_and_sample_jobs import SearchJobs
from benchmarks.world import Open, problems, settings
from stages import mcts


def test_progress_goes_to_the_console_and_to_mlflow(monkeypatch):
    monkeypatch.setattr(mcts, "LOG_S", 0.0)
    rows = []
    s = SimpleNamespace(
        params=SimpleNamespace(execution=SimpleNamespace(runner="ray")), log=lambda row, step: rows.append((step, row))
    )
    meter = Meter(workers=3, engine_s=9.0, worker_s=10.0)
    pace = mcts.Pace(s, meter)
    jobs = SearchJobs(settings(), "countdown", 1)
    trees = [t for _, t in run_searches(map(jobs, problems(10)), engine=Open(sleeps=False)(), in_flight=4)]
    for done, tree in enumerate(trees, 5):
        said = pace.count(tree, done, 14)
    assert [step for step, _ in rows] == list(range(5, 15))
    last = rows[-1][1]
    assert set(last) == {
        f"pace/{n}" for n in ("trees_per_min", "tokens_per_s", "solved", "minutes_left", "busy", "workers")
    }
    assert (last["pace/workers"], last["pace/busy"], last["pace/minutes_left"]) == (3, 0.9, 0.0)
    assert last["pace/solved"] == sum(any(n.verdict == "correct" for n in t.nodes) for t in trees) / 10
    for part in ("trees/min", "tokens/s", "solved", "engines 90.0% busy", "3 workers"):
        assert part in said

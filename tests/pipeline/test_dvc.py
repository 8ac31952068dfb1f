"""What DVC runs again, and what it does not; experiments; the way back; equal params give equal data."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from astro.runtime import read_json
from astro.tracking import store
from schemas.linearize import LinearizeMetrics
from tests.pipeline.checkout import Checkout
from tests.pipeline.conftest import Smoke

pytestmark = pytest.mark.slow


def test_second_repro_runs_nothing(smoke: Smoke):
    done = smoke.checkout.run("dvc", "repro")
    print(f"dvc repro with nothing to do: {done.seconds:.1f} s")
    assert done.ran == []
    assert done.seconds < 30


# ------------------------------------------------------------------------------------------- what a change makes stale


@pytest.fixture(scope="module")
def bench(smoke: Smoke, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """One copy for all changes; each test takes its own back."""
    return smoke.checkout.copy(tmp_path_factory.mktemp("status") / "astro")


@pytest.fixture
def clean(bench: Checkout) -> Iterator[Checkout]:
    yield bench
    bench.run("git", "checkout", "-q", ".")


def downstream(root: Path, stages: set[str]) -> set[str]:
    """Every stage that reads, directly or not, what `stages` write, by dvc.yaml."""
    graph = YAML(typ="safe").load(root / "dvc.yaml")["stages"]

    def writes(name: str) -> set[str]:
        listed = [x for kind in ("outs", "metrics", "plots") for x in graph[name].get(kind, [])]
        return {next(iter(x)) if isinstance(x, dict) else x for x in listed}

    found, queue = set(), list(stages)
    while queue:
        outs = writes(queue.pop())
        reached = {name for name, stage in graph.items() if outs & set(stage["deps"])} - found
        found |= reached
        queue.extend(reached)
    return found - stages


SFT, GRPO = {"sft", "sft_direct"}, {"grpo", "grpo_direct"}
"""Both arms."""

# parameter, new value; stages that it changes; stages after them
PARAMS = [
    ("report.gallery", 1, {"report"}, set()),
    ("eval.samples", 3, {"eval"}, {"report"}),
    ("grpo.lr", 0.0007, GRPO, {"eval", "report"}),
    ("sft.lr", 0.0007, SFT, {*GRPO, "eval", "report"}),
    ("linearize.reflection", False, {"linearize"}, {*SFT, *GRPO, "eval", "report"}),
    ("mcts.k", 3, {"mcts", "eval"}, {"linearize", *SFT, *GRPO, "report"}),  # eval searches with the base, too
    # the engine is shared: all stages that generate text, the others do not care
    ("execution.concurrency", 32, {"mcts", "linearize", *GRPO, "eval"}, {*SFT, "report"}),
    # base reads the bounds of the world, but not how many problems there are
    ("problems.rl", 39, {"problems"}, {"base", "mcts", "linearize", *SFT, *GRPO, "eval", "report"}),
    ("problems.number_max", 7, {"problems", "base"}, {"mcts", "linearize", *SFT, *GRPO, "eval", "report"}),
    ("run.seed", 2, {"problems", "base", "mcts", "linearize", *SFT, *GRPO, "eval"}, {"report"}),
]


@pytest.mark.parametrize(("name", "value", "changed", "after"), PARAMS)
def test_parameter_changes_only_what_reads_it(name: str, value: object, changed: set, after: set, clean: Checkout):
    clean.set_param(name, value)
    assert clean.status() == changed
    assert downstream(clean.root, changed) == after


# file, stages that an edit of it changes
FILES = [
    ("schemas/evaluate.py", {"eval", "report"}),  # not mcts: contracts are listed one by one
    ("schemas/mcts.py", {"mcts", "report"}),  # the report reads every stage's metrics
    ("phrases/countdown.yaml", {"linearize", *SFT, *GRPO, "eval"}),  # eval and grpo read chains by them
    ("sources/README.md", {"problems"}),  # a user's problem files stand beside it
    ("astro/viz/console.py", {"report"}),
    ("astro/tracking/store.py", set()),  # how runs are tracked changes no data
    ("Makefile", set()),
    ("tests/pipeline/test_dvc.py", set()),
]


@pytest.mark.parametrize(("path", "changed"), FILES)
def test_edit_changes_only_what_depends_on_the_file(path: str, changed: set[str], clean: Checkout):
    with (clean.root / path).open("a") as file:
        file.write("\n# an edit\n")
    assert clean.status() == changed


# --------------------------------------------------------------------------------------------------------- experiments


@pytest.mark.parametrize(
    "setting",
    [
        "linearize.reflexion=false",  # a misspelled name
        "linearise.reflection=false",  # a misspelled section
    ],
)
def test_misspelled_setting_fails_and_runs_nothing(setting: str, clean: Checkout):
    before = (clean.root / "params.yaml").read_text()
    done = clean.run("dvc", "exp", "run", "-S", setting, ok=False)
    assert done.code != 0
    assert done.ran == []
    assert setting.split("=")[0].split(".")[0] in done.err
    assert (clean.root / "params.yaml").read_text() == before


def pipelines(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> tuple[list, list]:
    """Pipeline runs, newest first, and the children of all of them."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    client = store.load(checkout.root).MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("pipelines").experiment_id])
    return [r for r in runs if "mlflow.parentRunId" not in r.data.tags], runs


def test_ablation_and_the_way_back(smoke: Smoke, copy: Checkout, monkeypatch: pytest.MonkeyPatch):
    """The README's ablation, really run: upstream stages are taken from the cache, the runs can be compared."""
    done = copy.run("dvc", "exp", "run", "-S", "linearize.reflection=false")
    assert done.ran == ["linearize", "sft", "grpo", "eval", "report"]
    assert read_json(copy.root / "metrics/linearize.json", LinearizeMetrics).search == 0
    assert copy.md5("data/trees") == smoke.checkout.md5("data/trees")
    assert copy.md5("data/traces/train.jsonl") != smoke.checkout.md5("data/traces/train.jsonl")

    (ablation, first), runs = pipelines(copy, monkeypatch)
    assert ablation.data.params["linearize.reflection"] == "False"
    different = {k for k, v in ablation.data.params.items() if first.data.params.get(k) != v}
    assert different == {"linearize.reflection"}
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == ablation.info.run_id]
    cached = {r.info.run_name for r in children if r.data.tags["cached"] == "true"}
    assert cached == {"problems", "base", "mcts", "sft_direct", "grpo_direct"}
    assert copy.md5("data/traces/train.jsonl") == copy.md5("data/traces/direct.jsonl"), "that is the comparator"
    # Same data, same seed, same code: without its search traces the ASTRO arm is the comparator, to the bit.
    assert copy.md5("models/sft") == copy.md5("models/sft_direct")
    assert copy.md5("models/grpo") == copy.md5("models/grpo_direct")

    copy.run("git", "checkout", "-q", ".")
    copy.run("dvc", "checkout")
    assert copy.status() == set()
    assert copy.lock() == smoke.checkout.lock()
    assert copy.run("dvc", "repro").ran == []
    again = copy.run("dvc", "exp", "run", "-S", "linearize.reflection=false")
    assert again.ran == ["report"], "an ablation made once comes from the cache; the report has no outs to keep"
    assert len(pipelines(copy, monkeypatch)[0]) == 2, "the same state was logged twice"


def test_same_params_give_the_same_data(smoke: Smoke, copy: Checkout):
    """mcts (sampled by an engine) and linearize, forced to run again elsewhere, write the same bytes."""
    before = {path: smoke.checkout.md5(path) for path in ("data/trees", "data/traces/train.jsonl", "metrics/mcts.json")}
    done = copy.run("dvc", "repro", "-f", "-s", "mcts", "linearize")
    assert done.ran == ["mcts", "linearize"]
    assert {path: copy.md5(path) for path in before} == before

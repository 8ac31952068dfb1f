"""What DVC runs again, and what it does not; experiments; the way back; equal params give equal data."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from astro.dvc_files import read_pipeline
from astro.files import read_json
from astro.params import plain, read_yaml
from astro.tracking import store
from schemas.linearize import LinearizeMetrics
from tests.pipeline.checkout import MASKED, Checkout
from tests.pipeline.conftest import Smoke, require_same_training

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
    before = Path.cwd()
    os.chdir(root)
    try:
        graph = read_pipeline(plain(read_yaml(Path("params.yaml"))))
    finally:
        os.chdir(before)

    def reads(stage: str, outs: set[str]) -> bool:
        return any(Path(o).is_relative_to(d) or Path(d).is_relative_to(o) for d in graph[stage].deps for o in outs)

    found, queue = set(), list(stages)
    while queue:
        outs = set(graph[queue.pop()].outs)
        reached = {name for name in graph if reads(name, outs)} - found
        found |= reached
        queue.extend(reached)
    return found - stages


SFT, GRPO = {"sft@astro", "sft@direct"}, {"grpo@astro", "grpo@direct"}
"""Both arms."""

# parameter, new value; stages that it changes; stages after them
PARAMS = [
    ("report.gallery", 1, {"report"}, set()),
    ("eval.samples", 3, {"eval"}, {"report"}),
    ("grpo.lr", 0.0007, GRPO, {"eval", "report"}),
    ("sft.lr", 0.0007, SFT, {*GRPO, "eval", "report"}),
    ("linearize.reflection", False, {"linearize"}, {*SFT, *GRPO, "eval", "report"}),
    ("mcts.num_actions", 3, {"mcts", "eval"}, {"linearize", *SFT, *GRPO, "report"}),  # eval searches with the base, too
    # the engine is shared: all stages that generate text, the others do not care
    ("engine.max_model_len", 300, {"mcts", "linearize", *GRPO, "eval"}, {*SFT, "report"}),
    ("execution.concurrency", 32, set(), set()),  # where and how fast: no result depends on it
    ("arms.direct", {"sft": {}, "grpo": {"lr": 0.0007}}, {"grpo@direct"}, {"eval", "report"}),
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


def first_doc(text: str) -> str:
    """An edit of the first docstring."""
    return text.replace('"""', '"""Edited. ', 1)


def comment(text: str) -> str:
    return text + "\n# an edit\n"


def described(text: str) -> str:
    """An edit of the first description of a field."""
    return text.replace('description="', 'description="Edited. ', 1)


def other(text: str) -> str:
    """An edit that does something."""
    return text + "\nEDITED = 1\n"


AFTER_SEARCH = {"mcts", "linearize", *GRPO, "eval"}
"""Stages that reach astro/search: they search, or ask an engine by the same requests."""

# file, edit, stages that it changes
FILES = [
    ("astro/files.py", first_doc, set()),
    ("stages/harness.py", first_doc, set()),
    ("schemas/records.py", first_doc, set()),
    ("schemas/records.py", described, set()),
    ("astro/training/common.py", comment, set()),
    ("schemas/evaluate.py", other, {"eval", "report"}),  # not mcts: each contract is a module of its own
    ("astro/training/common.py", other, {"base", *SFT, *GRPO}),
    ("astro/search/puct.py", lambda text: text.replace("(1 + visits)", "(2 + visits)"), AFTER_SEARCH),
    ("astro/tasks/math/prompts/math.txt", comment, set()),  # Countdown does not reach it
    ("astro/tasks/math/solution_text.py", other, set()),
    ("astro/viz/templates/page.css", comment, {"report"}),
    ("phrases/countdown.yaml", comment, {"linearize", *SFT, *GRPO, "eval"}),  # eval and grpo read chains by them
    ("sources/README.md", comment, {"problems"}),  # a user's problem files stand beside it
    ("astro/viz/results_table.py", other, {"report"}),
    ("astro/tracking/store.py", other, set()),  # how runs are tracked changes no data
    ("astro/training/launch.py", other, set()),  # nor where training runs
    ("astro/process.py", other, set()),  # nor how a process starts and ends
    ("Makefile", comment, set()),
    ("tests/pipeline/test_dvc.py", other, set()),
]


@pytest.mark.parametrize(("path", "edit", "changed"), FILES)
def test_edit_changes_only_what_depends_on_the_file(path: str, edit, changed: set[str], clean: Checkout):
    before = (clean.root / path).read_text()
    (clean.root / path).write_text(edit(before))
    assert (clean.root / path).read_text() != before
    assert clean.status() == changed


def test_an_edit_of_words_and_layout_runs_nothing_but_the_identity(clean: Checkout):
    """Docstrings in all three packages, a comment, another line length: `dvc status` and `dvc repro` as a user types them."""
    for path in ("astro/files.py", "stages/sft.py", "schemas/strict.py"):
        (clean.root / path).write_text(comment(first_doc((clean.root / path).read_text())))
    clean.run("ruff", "format", "-q", "--line-length", "80", "astro/inference", "astro/training", "stages")
    assert set(json.loads(clean.run("dvc", "status", "--json").out)) == {"code"}
    done = clean.run("dvc", "repro")
    assert done.all_ran == ["code"]


def test_a_third_arm_makes_its_own_stages_stale_and_those_that_compare(clean: Checkout):
    """What its models are like: tests/pipeline/test_task_file.py."""
    with (clean.root / "arms.yaml").open("a") as file:
        file.write(MASKED)
    text = (clean.root / "params.yaml").read_text()
    (clean.root / "params.yaml").write_text(text.replace("arms:", "arms:\n  masked: {sft: {}, grpo: {}}\n  #", 1))
    assert clean.status() == {"sft@masked", "grpo@masked", "eval", "report"}


# ------------------------------------------------------------------------------------------- what changes while it runs


def test_an_edit_while_a_stage_runs_is_told_and_not_recorded(smoke: Smoke, copy: Checkout):
    """The lock must not say that the new state made the model. What was trained serves once the edits are taken back."""
    copy.forget("sft@astro")
    with copy.started("dvc", "repro", "-s", "sft@astro") as running:
        work = copy.root / "work/sft"
        running.wait_for(lambda: any(work.glob("*/checkpoint-*")), what="a checkpoint")
        for path, text in (("astro/training/sft.py", "\nEDITED = 1\n"), ("phrases/countdown.yaml", "# edited\n")):
            with (copy.root / path).open("a") as file:
                file.write(text)
        copy.set_param("sft.lr", 0.0005)
        assert running.end(120) != 0
        said = running.log.read_text()
    changed = "astro/training/sft.py, phrases/countdown.yaml, sft in params.yaml"
    assert f"error: sft: changed while the stage ran: {changed}. " in said
    assert "sft@astro" not in copy.lock()
    assert not (copy.root / "models/sft").exists()
    assert "sft@astro" in copy.status()
    copy.run("git", "checkout", "-q", "astro", "phrases", "params.yaml")
    done = copy.run("dvc", "repro", "sft@astro")
    assert "resumes from checkpoint-" in done.out
    require_same_training(copy, smoke.checkout, "sft")


def test_a_stage_on_the_identity_of_older_code_is_refused(clean: Checkout):
    """By hand, and by `dvc repro -s`, which leaves the stage `code` out. DVC has taken the outs of linearize away by then."""
    (clean.root / "astro/cloning/walk.py").write_text(other((clean.root / "astro/cloning/walk.py").read_text()))
    said = "error: code/linearize.json does not match the current code; changed: astro/cloning/walk.py. Run `dvc repro"
    done = clean.run("python", "-m", "stages.linearize", ok=False)
    assert (done.code, said in done.err, "Traceback" in done.err) == (2, True, False), done
    forced = clean.run("dvc", "repro", "-s", "-f", "linearize", ok=False)
    assert forced.code != 0
    assert said in forced.err


def test_a_module_that_cannot_be_read_ends_the_run_at_once(clean: Checkout):
    (clean.root / "astro/search/puct.py").write_text("def broken(:\n")
    done = clean.run("dvc", "repro", ok=False)
    assert done.code != 0
    assert done.all_ran == ["code"]
    assert "error: astro/search/puct.py, line 1: invalid syntax: the module cannot be parsed" in done.err


def test_an_unknown_arm_is_refused(clean: Checkout):
    for stage in ("sft", "grpo"):
        done = clean.run("python", "-m", f"stages.{stage}", "dirct", ok=False)
        assert (done.code, "error: unknown arm 'dirct'; arms.yaml has: direct, astro" in done.err) == (2, True), done


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
    assert done.ran == ["linearize", "sft@astro", "grpo@astro", "eval", "report"]
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

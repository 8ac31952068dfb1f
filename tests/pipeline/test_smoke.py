"""The smoke pipeline as a user runs it, and everything that it should leave behind."""

import csv
import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from astro.execution.result_store import FILE
from astro.files import read_json, read_jsonl, read_shards
from astro.params import plain, read_yaml
from astro.tracking import store
from schemas.base_model import BaseModelMetrics
from schemas.evaluate import EvalMetrics
from schemas.grpo import GrpoMetrics
from schemas.linearize import LinearizeMetrics
from schemas.mcts import MctsMetrics
from schemas.problems import ProblemsMetrics
from schemas.records import Completion, Problem, StageRecord, Trace, Tree
from schemas.sft import SftMetrics
from tests.pipeline.checkout import STAGES
from tests.pipeline.conftest import Smoke

pytestmark = pytest.mark.slow

METRICS = {
    "problems": ProblemsMetrics,
    "base": BaseModelMetrics,
    "mcts": MctsMetrics,
    "linearize": LinearizeMetrics,
    "sft": SftMetrics,
    "sft_direct": SftMetrics,
    "grpo": GrpoMetrics,
    "grpo_direct": GrpoMetrics,
    "eval": EvalMetrics,
}

# file, relative; contract; records that the smoke profile makes (None: any number but 0)
DATA = [
    ("data/problems/train.jsonl", Problem, 60),
    ("data/problems/rl.jsonl", Problem, 40),
    ("data/problems/eval/n3.jsonl", Problem, 24),
    ("data/problems/eval/n4.jsonl", Problem, 12),
    ("data/traces/train.jsonl", Trace, None),
    ("data/traces/direct.jsonl", Trace, None),
    ("data/completions/base.jsonl", Completion, 72),  # 36 problems, 2 samples
    *((f"data/completions/{name}.jsonl", Completion, 72) for name in ("sft", "sft_direct", "grpo", "grpo_direct")),
]


@pytest.fixture(scope="module")
def root(smoke: Smoke) -> Path:
    return smoke.checkout.root


@pytest.fixture(scope="module")
def params(root: Path) -> dict:
    return plain(read_yaml(root / "params.yaml"))


def test_every_stage_ran_once_and_in_order(smoke: Smoke):
    assert sorted(smoke.done.all_ran) == sorted(STAGES)
    order = [smoke.done.all_ran.index(s) for s in STAGES]
    assert order == sorted(order)


def test_table_is_printed(smoke: Smoke, root: Path):
    shown = (root / "reports/table.txt").read_text().strip()
    assert shown in smoke.done.out
    for word in ("n3", "n4", "base", "Direct-SFT", "ASTRO-SFT", "Direct-RL", "ASTRO-RL", "pass@1"):
        assert word in shown, f"{word} is not in the table:\n{shown}"
    again = smoke.checkout.run("python", "-m", "stages.report", "--table").out
    assert again.strip() == shown


@pytest.mark.parametrize("stage", METRICS)
def test_metrics_and_record_keep_their_contract(stage: str, root: Path):
    read_json(root / f"metrics/{stage}.json", METRICS[stage])
    record = read_json(root / f"records/{stage}.json", StageRecord)
    assert record.stage == stage
    assert record.run_id
    assert 0 < record.seconds < 900


@pytest.mark.parametrize(("path", "contract", "count"), DATA)
def test_data_files_keep_their_contract(path: str, contract: type[BaseModel], count: int | None, root: Path):
    found = sum(1 for _ in read_jsonl(root / path, contract))
    assert found == count if count is not None else found > 0


def test_trees_are_sharded_and_in_the_order_of_the_problems(root: Path, params: dict):
    assert len(list((root / "data/trees").glob("*.jsonl"))) == params["mcts"]["shards"]
    trees = [tree.problem.id for tree in read_shards(root / "data/trees", Tree)]
    assert trees == [p.id for p in read_jsonl(root / "data/problems/train.jsonl", Problem)]


def test_no_train_problem_is_an_eval_problem(root: Path):
    def keys(path: Path) -> set[tuple[str, ...]]:
        return {(p.gold, *sorted(re.findall(r"\d+", p.question))) for p in read_jsonl(path, Problem)}

    held_out = set().union(*(keys(p) for p in (root / "data/problems/eval").glob("*.jsonl")))
    for name in ("train", "rl"):
        assert not keys(root / f"data/problems/{name}.jsonl") & held_out


@pytest.mark.parametrize("stage", ["base", "sft", "sft_direct", "grpo", "grpo_direct"])
def test_curves_have_each_step_once(stage: str, root: Path):
    with (root / f"metrics/curves/{stage}.csv").open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("stage", ["base", "sft", "sft_direct", "grpo", "grpo_direct"])
def test_models_load_and_generate(stage: str, root: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = root / "models" / stage
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    problem = next(iter(read_jsonl(root / "data/problems/eval/n3.jsonl", Problem)))
    tokens = tokenizer(problem.question + "\n", return_tensors="pt")
    assert tokenizer.unk_token_id not in tokens["input_ids"]
    longer = model.generate(input_ids=tokens["input_ids"], max_new_tokens=4, do_sample=False)
    assert longer.shape[1] > tokens["input_ids"].shape[1]
    assert not list(folder.glob("*.bin")), "weights are safetensors, not pickles"


@pytest.mark.parametrize("gate", ["problems", "mcts", "linearize"])
def test_gates_left_their_summary_and_page(gate: str, root: Path):
    summary = json.loads((root / f"metrics/gate_{gate}.json").read_text())
    text = json.dumps(summary)
    assert '"success": true' in text
    assert '"success": false' not in text
    assert list((root / "reports/data_docs").rglob("index.html"))


def test_report_is_one_file_that_needs_no_network(root: Path):
    page = (root / "reports/report.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    # names of XML namespaces are no references: nothing fetches them
    for tag in re.findall(r"<(?:script|link|img|iframe|image|use|a|source)\b[^>]*>", page):
        for target in re.findall(r'(?:src|href)\s*=\s*["\']([^"\']*)', tag):
            assert target.startswith(("#", "data:")), tag
    assert not re.findall(r"url\(\s*['\"]?(?!#|data:)[^)]+\)|@import", page)


def test_nothing_half_written_is_left(root: Path):
    assert [p for p in root.rglob(".*.tmp") if ".dvc" not in p.parts] == []
    left = [p.relative_to(root / "work") for p in (root / "work").rglob("*") if p.is_file() and p.name != "lock"]
    kept = [
        p for p in left if p.parts[0] == "eval"
    ]  # what it measured of each model, and its searches, for the next run
    assert (left, {p.name for p in kept}, len(kept)) == (kept, {FILE}, 6)


def test_git_sees_no_output(smoke: Smoke):
    assert smoke.checkout.run("git", "status", "--porcelain").out == ""
    tracked = smoke.checkout.run("git", "ls-files").out.split()
    outputs = [p for p in tracked if p.endswith((".jsonl", ".safetensors", ".db")) and not p.startswith("tests/")]
    assert not outputs


# -------------------------------------------------------------------------------------------------------------- MLflow


@pytest.fixture(scope="module")
def client(root: Path):
    """MLflow's own view of the store that the pipeline wrote."""
    patch = pytest.MonkeyPatch()
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        patch.delenv(name, raising=False)
    yield store.load(root).MlflowClient()
    patch.undo()


def runs(client, experiment: str) -> list:
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def leaves(value: dict, prefix: str = "") -> dict[str, object]:
    """A nested mapping as `a.b.c` -> value."""
    found: dict[str, object] = {}
    for key, item in value.items():
        if isinstance(item, dict):  # an empty one holds no parameter
            found |= leaves(item, f"{prefix}{key}.")
        else:
            found[prefix + key] = item
    return found


def test_one_pipeline_run_with_all_params_and_metrics(client, params: dict):
    pipelines = [r for r in runs(client, "pipelines") if "mlflow.parentRunId" not in r.data.tags]
    assert len(pipelines) == 1
    run = pipelines[0]
    assert run.info.status == "FINISHED"
    assert set(leaves(params)) <= set(run.data.params), set(leaves(params)) - set(run.data.params)
    assert run.data.params["grpo.lr"] == str(params["grpo"]["lr"])
    for stage in METRICS:
        assert any(name.startswith(f"{stage}/") for name in run.data.metrics), stage


def test_pipeline_run_equals_the_metrics_files(client, root: Path):
    run = next(r for r in runs(client, "pipelines") if "mlflow.parentRunId" not in r.data.tags)
    metrics = read_json(root / "metrics/eval.json", EvalMetrics)
    found = [v for k, v in run.data.metrics.items() if "n3" in k and "grpo" in k and k.endswith("pass_at_1/value")]
    assert metrics.sets["n3"]["grpo"].pass_at_1.value in found


def test_more_answers_of_the_baseline_count_for_equal_tokens_alone(root: Path):
    """eval.samples is 2 and eval.baseline_samples 4; test_outputs counts the 2 completions of each model."""
    metrics = read_json(root / "metrics/eval.json", EvalMetrics)
    assert metrics.samples == 2
    counts = {
        curve.label: [point.budget for point in curve.points]
        for curve in metrics.budgets["n3"]
        if curve.method == "majority"
    }
    assert counts == {"base": [1, 2, 4], "sft_direct": [1, 2, 4], "grpo_direct": [1, 2, 4]}


def test_a_child_per_stage_none_cached(client):
    children = [r for r in runs(client, "pipelines") if "mlflow.parentRunId" in r.data.tags]
    assert sorted(r.info.run_name for r in children) == sorted(METRICS)
    assert {r.data.tags["cached"] for r in children} == {"false"}


def test_stage_runs_are_those_of_the_records(client, root: Path):
    stages = {r.info.run_id: r for r in runs(client, "stages")}
    assert sorted(r.info.run_name for r in stages.values()) == sorted(METRICS)
    for stage in METRICS:
        run = stages[read_json(root / f"records/{stage}.json", StageRecord).run_id]
        assert run.info.status == "FINISHED", stage
    sft = stages[read_json(root / "records/sft.json", StageRecord).run_id]
    assert len(client.get_metric_history(sft.info.run_id, "sft/loss")) > 1, "no live curve"


def test_the_models_of_both_arms_are_logged_with_their_weights(client, root: Path):
    experiment = client.get_experiment_by_name("pipelines").experiment_id
    found = {m.name: m for m in client.search_logged_models([experiment])}
    assert set(found) == {"sft", "sft_direct", "grpo", "grpo_direct"}
    metrics = read_json(root / "metrics/eval.json", EvalMetrics)
    for name, model in found.items():
        assert model.tags["weights"] == "uploaded"
        figures = {m.key: m.value for m in model.metrics}
        assert figures["eval/n3/pass_at_1/value"] == pytest.approx(metrics.sets["n3"][name].pass_at_1.value)
    current = client.get_model_version_by_alias("astro", "current")
    assert current.source == f"models:/{found['grpo'].model_id}"
    weights = next((root / "mlartifacts/pipelines/models" / found["grpo"].model_id).rglob("model.safetensors"))
    assert weights.read_bytes() == (root / "models/grpo/model.safetensors").read_bytes()

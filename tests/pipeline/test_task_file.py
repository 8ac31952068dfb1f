"""A task in one file through all stages, each by its real command: a small base trained from scratch on its own solutions.

It has a third arm: chains that search, with the loss off wrong steps.
"""

from pathlib import Path

import pytest

from astro.arms import contracts
from astro.export.card import figures, summary
from astro.export.source_run import Run
from astro.files import read_json, read_jsonl, read_shards
from astro.params import load_params
from schemas.evaluate import EvalMetrics
from schemas.records import Completion, Problem, Trace, Tree
from tests.pipeline.checkout import MASKED, Checkout, in_one_process, linked

pytestmark = pytest.mark.slow

SETTINGS = {
    "run.task": "examples/sums.py",
    "run.options": {"largest": 9},
    "arms": {
        "direct": {"sft": {}, "grpo": {}},
        "astro": {"sft": {}, "grpo": {}},
        "masked": {"sft": {"loss_on": "no_wrong_steps"}, "grpo": {}},
    },
    "engine.kind": "hf",
    "problems.train": 24,
    "problems.rl": 12,
    "problems.levels": {"2": 1.0},
    "problems.eval": {"two": {"level": 2, "size": 8}},
    "base.corpus.levels": {"1": 0.3, "2": 0.7},
    "base.corpus.rows": 4000,
    "mcts.problems": 24,
    "mcts.rollouts_per_child": 1,
    "sft.epochs": 4.0,
    "grpo.steps": 2,
    "grpo.max_completion_length": 64,
    "grpo.pass_rate.high": 1.0,
    "grpo.pass_rate.problems": 12,
    "eval.max_tokens": 64,
    "eval.mcts_problems": 2,
}

TRAINED = [f"{stage} {arm}" for stage in ("sft", "grpo") for arm in ("astro", "direct", "masked")]
STAGES = in_one_process("code", "problems", "base", "mcts", "linearize", *TRAINED, "eval", "report")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """All stages, run in order in a folder of their own."""
    checkout = linked(tmp_path_factory.mktemp("task") / "astro", "smoke", SETTINGS)
    arms = checkout.root / "arms.yaml"
    text = arms.read_text() + MASKED
    arms.unlink()  # a link
    arms.write_text(text)
    print(checkout.run("python", "-c", STAGES).out)
    return checkout


def test_every_stage_works_on_it(done):
    root = done.root
    assert len(list(read_jsonl(root / "data/problems/train.jsonl", Problem))) == 24
    trees = list(read_shards(root / "data/trees", Tree))
    assert any(n.verdict == "correct" for t in trees for n in t.nodes)
    assert {n.answer is not None for t in trees for n in t.nodes if n.verdict in ("correct", "wrong")} == {True}
    traces = list(read_jsonl(root / "data/traces/train.jsonl", Trace))
    searched = [t for t in traces if t.kind == "search"]
    assert searched
    for trace in searched:
        assert "Tried: " in trace.completion
        assert trace.completion.count("Answer: ") == 1
    metrics = read_json(root / "metrics/eval.json", EvalMetrics)
    assert set(metrics.sets) == {"two"}
    assert {c.problem_id for c in read_jsonl(root / "data/completions/sft.jsonl", Completion)} == {
        f"eval_two-{n:05d}" for n in range(8)
    }
    assert (root / "reports/report.html").is_file()
    assert '"examples/sums.py"' in (root / "code/mcts.json").read_text()


def test_one_can_ask_its_models(done):
    asked = done.run("python", "-m", "astro", "ask", "add 3 4 5", "--samples", "1", NO_COLOR="1")
    assert "add 3 4 5" in asked.out


def test_a_third_arm_shows_in_metrics_page_and_card_by_itself(done, monkeypatch):
    monkeypatch.chdir(done.root)
    metrics = read_json(Path("metrics/eval.json"), EvalMetrics)
    assert {"base", "sft_masked", "grpo_masked", "sft", "grpo_direct"} <= set(metrics.sets["two"])
    pairs = {(d.better, d.worse) for d in metrics.differences["two"]}
    assert {("sft_masked", "sft_direct"), ("grpo_masked", "grpo_direct"), ("sft_masked", "sft")} <= pairs
    assert "Masked-RL" in Path("reports/table.txt").read_text()
    assert "Masked-SFT" in Path("reports/report.html").read_text()
    masked, other = (Path(f"models/{name}/model.safetensors").read_bytes() for name in ("sft_masked", "sft"))
    assert masked != other
    params = load_params(Path("params.yaml"))
    found = {name: read_json(Path(f"metrics/{name}.json"), contracts()[name]) for name in ("base", "eval")}
    run = Run("grpo_masked", params, found, {}, commit="", stale=(), prompt="", question="")
    assert "fine-tuned on masked chains, then improved by GRPO" in summary(run)
    assert "Masked-SFT" in figures(run)

"""The pipeline on mathematics problems with a chat model: every stage by its real command, with a tiny model in the format of
Llama-3.1 (its chat template, special tokens, sharded weights) that is taught to add.

It is asked to rewrite the chains and to vote on solutions, too (`linearize.writer: lm`, `linearize.filter: self_eval`). It was
not taught to, so the template's text stands for most of what it writes. tests/execution/test_vote_and_rewrite_jobs_chat.py has
a model that was.
"""

import csv
import json
import re
import shutil

import pytest

from astro.cloning.verbalize import load_phrases
from astro.files import read_json, read_jsonl, read_shards
from astro.params import plain, read_yaml
from astro.tasks.math.task import Math
from schemas.evaluate import EvalMetrics
from schemas.linearize import LinearizeMetrics
from schemas.mcts import MctsMetrics
from schemas.problems import Dropped, ProblemsMetrics
from schemas.records import Completion, Problem, StepChecks, Trace, Tree
from tests.pipeline.checkout import REPOSITORY, Checkout, in_one_process, linked
from tests.pipeline.sums import CONTEXT, write_problems
from tests.tiny_chat import SPECIAL

pytestmark = pytest.mark.slow

SETTINGS = {
    "run.task": "math",
    "run.prompt": "chat",
    "engine.kind": "hf",
    "engine.max_model_len": CONTEXT,
    "problems.source": "files",
    "problems.folder": "own",
    "base.source": "pretrained",
    "base.pretrained.path": "pretrained",
    "mcts.problems": 12,
    "mcts.rollouts_per_child": 1,
    "mcts.num_actions": 5,
    "mcts.num_simulations": 10,
    "mcts.c_puct": 4.0,  # wide: a right first try must not be all that a tree holds
    "mcts.max_depth": 4,
    "mcts.step_tokens": 32,
    "mcts.rollout_tokens": 48,
    "linearize.traces_per_tree": 6,
    "linearize.phrase_file": "phrases/math_lm.yaml",
    "linearize.filter": "self_eval",
    "linearize.self_eval.votes": 4,
    "linearize.self_eval.min_share": 0.0,  # asked, and whatever it says is enough: it was never taught to judge
    "linearize.self_eval.max_tokens": 4,
    "linearize.writer": "lm",
    "linearize.lm.shots": 0,
    "linearize.lm.max_tokens": 32,
    "linearize.lm.retries": 1,
    "linearize.lm.on_failure": "template",
    "sft.max_length": CONTEXT,
    "sft.epochs": 8.0,
    "sft.lr": 0.003,
    "sft.loss_on": "completion",  # as the model was pretrained
    "sft.bf16": False,
    "sft.lora.enabled": True,
    "grpo.steps": 2,
    "grpo.group_size": 4,
    "grpo.micro_batch": 16,
    "grpo.bf16": False,
    "grpo.max_completion_length": 120,
    "grpo.pass_rate.high": 1.0,
    "eval.max_tokens": 160,
    "eval.mcts_problems": 3,
}


STAGES = in_one_process(
    *("problems", "base", "mcts", "linearize", "sft", "sft direct", "grpo", "grpo direct", "eval", "report"),
    first="from pathlib import Path; from tests.pipeline.sums import write_model; write_model(Path('pretrained'))",
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """All stages, run in order in a folder of their own."""
    root = tmp_path_factory.mktemp("math") / "astro"
    checkout = linked(root, "smoke", SETTINGS)
    checkout.set_param("problems.files", write_problems(root / "own"))
    ended = checkout.run("python", "-c", STAGES)
    print(f"{ended.seconds:.0f} s\n{ended.out}")
    return checkout


def test_problems_are_imported_and_the_leak_is_listed(done: Checkout):
    metrics = read_json(done.root / "metrics/problems.json", ProblemsMetrics)
    assert {name: found.size for name, found in metrics.sets.items()} == {"train": 12, "rl": 6, "eval_sums": 7}
    with (done.root / "data/problems/dropped.csv").open(encoding="utf-8", newline="") as file:
        (leak,) = map(Dropped.model_validate, csv.DictReader(file))
    assert (leak.id, leak.set, leak.reason, leak.hits) == ("train-leak", "train", "exact", "eval_sums:sums-000003")
    assert leak.where == "own/train.jsonl, line 13"
    rl = next(iter(read_jsonl(done.root / "data/problems/rl.jsonl", Problem)))
    assert (rl.task, rl.gold.isdigit(), rl.chance) == ("math", True, None)


def test_trees_hold_right_and_wrong_solutions_and_checked_steps(done: Checkout):
    trees = list(read_shards(done.root / "data/trees", Tree))
    assert len(trees) == 12
    metrics = read_json(done.root / "metrics/mcts.json", MctsMetrics)
    assert metrics.valid > 0
    assert metrics.checks.true > 0
    assert metrics.checks.false > 0
    for tree in trees:
        assert tree.nodes[0].checks is None
        for node in tree.nodes[1:]:
            assert node.checks is not None
            if node.verdict is not None:
                assert (node.answer == tree.problem.gold) == (node.verdict == "correct")
            written = re.fullmatch(r"Step 1: We add the numbers: \$(\d+)\+(\d+)=(\d+)\$\.", node.text)
            if written:
                a, b, result = map(int, written.groups())
                assert node.checks == StepChecks(true=int(a + b == result), false=int(a + b != result), unchecked=0), (
                    node.text
                )


def test_chains_reflect_go_back_and_end_in_a_box(done: Checkout):
    traces = list(read_jsonl(done.root / "data/traces/train.jsonl", Trace))
    searches = [t for t in traces if t.kind == "search"]
    assert searches
    for trace in traces:
        before, _, last = trace.completion.rpartition("\n\n")
        assert "\\boxed" not in before  # an answer that is given up is no longer boxed
        assert f"\\boxed{{{trace.answer}}}" in last
    for trace in searches:
        kinds = [s.kind for s in trace.segments]
        assert kinds.count("return") == trace.backtracks
    assert read_json(done.root / "metrics/linearize.json", LinearizeMetrics).traces == len(traces)


def test_prompts_are_rendered_and_models_keep_what_makes_them_chat_models(done: Checkout):
    """What goes into training is the template's text around the question; what comes out still has its template and ends."""
    source = done.root / "pretrained"
    template = (source / "chat_template.jinja").read_text()
    ends = json.loads((source / "generation_config.json").read_text())["eos_token_id"]
    assert len(list(source.glob("*.safetensors"))) == 2
    assert len(ends) == 3
    for trace in read_jsonl(done.root / "data/traces/train.jsonl", Trace):
        assert trace.prompt.startswith("<|begin_of_text|><|start_header_id|>system")
        assert trace.prompt.endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")
        assert not any(control in trace.completion for control in SPECIAL["llama"])
    for name in ("sft", "sft_direct", "grpo", "grpo_direct"):
        folder = done.root / "models" / name
        assert (folder / "chat_template.jinja").read_text() == template
        assert set(json.loads((folder / "generation_config.json").read_text())["eos_token_id"]) == set(ends)
        assert json.loads((folder / "tokenizer_config.json").read_text())["pad_token"] == "<|finetune_right_pad_id|>"
        assert not (folder / "adapter_config.json").exists()
    completions = list(read_jsonl(done.root / "data/completions/grpo.jsonl", Completion))
    assert sum(c.finished for c in completions) > len(completions) / 2
    assert not any(control in c.text for c in completions for control in SPECIAL["llama"])


def test_a_model_that_does_not_fit_is_refused_before_its_weights_are_read(done: Checkout, tmp_path):
    """Every fault at once, by parameter and figure; nothing is made."""
    changed = {"problems.files": read_yaml(done.root / "params.yaml")["problems"]["files"]}
    checkout = linked(tmp_path / "astro", "smoke", SETTINGS | changed)
    root = checkout.root
    shutil.copytree(done.root / "pretrained", root / "pretrained", ignore=shutil.ignore_patterns("*.safetensors"))
    checkout.set_param("grpo.max_completion_length", CONTEXT)
    checkout.set_param("sft.max_length", CONTEXT + 1)
    refused = checkout.run("python", "-m", "stages.base", ok=False)
    assert refused.code == 2
    assert (
        f"base.pretrained.path: sft.max_length {CONTEXT + 1}: pretrained has a context of {CONTEXT} tokens"
        in refused.err
    )
    assert f"base.pretrained.path: grpo.max_completion_length {CONTEXT}, after a prompt of" in refused.err
    assert not (root / "models").exists()


def test_the_model_rewrote_chains(done: Checkout):
    """It was never taught to, so most texts are refused and the template stands in; a few pass, and the counts say so."""
    rewrites = read_json(done.root / "metrics/linearize.json", LinearizeMetrics).rewrites
    refused = sum(rewrites.rejected.model_dump().values())
    assert 0 < refused < rewrites.requests
    assert 0 < rewrites.fallbacks < rewrites.segments
    assert (rewrites.dropped, rewrites.left_out) == (0, 0)


def test_models_are_measured(done: Checkout):
    metrics = read_json(done.root / "metrics/eval.json", EvalMetrics)
    assert set(metrics.sets["sums"]) == {"base", "sft_direct", "sft", "grpo_direct", "grpo"}
    completions = [c for p in (done.root / "data/completions").glob("*.jsonl") for c in read_jsonl(p, Completion)]
    assert len(completions) == 5 * 7 * 2
    assert {"correct", "wrong"} <= {c.verdict for c in completions}
    assert any(c.chain.attempts for c in completions)
    assert {(c.extraction, c.answer is None) for c in completions} <= {("box", False), ("none", True)}
    readings = metrics.base_by_reading["sums"]
    assert readings["box"] == metrics.sets["sums"]["base"].pass_at_1
    assert readings["box_or_statement"].value >= readings["box"].value


def test_what_linearize_writes_eval_reads(done: Checkout):
    """The graph of a training chain has as many back edges as the walk it was written from, and an attempt more."""
    task = Math(load_phrases(REPOSITORY / "phrases/math_lm.yaml"))
    problems = {p.id: p for p in read_jsonl(done.root / "data/problems/train.jsonl", Problem)}
    for name in ("train", "direct"):
        traces = list(read_jsonl(done.root / f"data/traces/{name}.jsonl", Trace))
        chains = task.parse_many([problems[t.problem_id] for t in traces], [t.completion for t in traces])
        for trace, chain in zip(traces, chains, strict=True):
            assert (len(chain.back_edges), len(chain.attempts)) == (trace.backtracks, trace.backtracks + 1), (
                trace.completion
            )
            assert [chain.nodes[i].right for i in chain.attempts] == [False] * trace.backtracks + [True], (
                trace.completion
            )


def test_rewards_are_those_of_the_grader(done: Checkout):
    rows = (done.root / "metrics/curves/grpo.csv").read_text().splitlines()
    assert len(rows) == 3
    assert all(-1 <= float(row.split(",")[rows[0].split(",").index("reward")]) <= 1 for row in rows[1:])


def test_the_page_shows_the_checks(done: Checkout):
    page = (done.root / "reports/report.html").read_text()
    assert "equalities: 1 true" in page
    assert "1 false" in page


def test_an_edit_of_a_file_is_an_edit_of_a_dependency():
    """The folder of the files is a dep of the stage, wherever it is."""
    pipeline = plain(read_yaml(REPOSITORY / "dvc.yaml"))
    assert "${problems.folder}" in pipeline["stages"]["problems"]["deps"]
    assert json.dumps(pipeline).count("problems.folder") == 1

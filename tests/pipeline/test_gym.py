"""The pipeline on a task of reasoning-gym: every stage by its real command, with a tiny chat model that is taught to add."""

import json
import random
import sys
from functools import partial
from pathlib import Path

import pytest

from astro.files import read_json, read_jsonl
from astro.params import read_yaml
from astro.tasks import get_task
from astro.tasks.chat import chat_template_of
from schemas.evaluate import EvalMetrics
from schemas.linearize import LinearizeMetrics
from schemas.mcts import MctsMetrics
from schemas.records import Completion, Problem
from tests.pipeline.checkout import Checkout, in_one_process, linked
from tests.tiny_chat import chat_tokenizer, teach, write_tiny_chat

pytestmark = pytest.mark.slow
pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed: make gym")

OPTIONS = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1, "allow_negation": False}
CONTEXT = 640
SETTINGS = {
    "run.task": "gym:chain_sum",
    "run.options": OPTIONS,
    "run.prompt": "chat",
    "engine.kind": "hf",
    "engine.max_model_len": CONTEXT,
    "problems.train": 12,
    "problems.rl": 6,
    "problems.levels": {1: 1.0},
    "problems.eval": {"sums": {"level": 1, "size": 8}},
    "base.source": "pretrained",
    "base.pretrained.path": "pretrained",
    "mcts.problems": 12,
    "mcts.rollouts_per_child": 1,
    "mcts.num_actions": 4,
    "mcts.num_simulations": 8,
    "mcts.c_puct": 4.0,
    "mcts.max_depth": 4,
    "mcts.step_tokens": 32,
    "mcts.rollout_tokens": 48,
    "linearize.traces_per_tree": 4,
    "linearize.phrase_file": "phrases/math.yaml",
    "linearize.filter": "none",
    "sft.max_length": CONTEXT,
    "sft.epochs": 4.0,
    "sft.lr": 0.003,
    "sft.loss_on": "completion",
    "sft.bf16": False,
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
    first="from pathlib import Path; from tests.pipeline.test_gym import write_model; write_model(Path('pretrained'))",
)


def examples(pairs: list[tuple[str, str, str]], rng: random.Random, count: int) -> list[tuple[str, str]]:
    """(prompt, solution), a third of which come to another number."""
    found = []
    for prompt, asked, gold in rng.choices(pairs, k=count):
        result = int(gold) + (rng.choice((-1, 1, 2)) if rng.random() < 0.3 else 0)
        found.append((prompt, f"{asked} {result}\n\n<answer>{result}</answer>"))
    return found


def write_model(folder: Path) -> None:
    """A chat model in the format of Llama-3.1, taught to answer these problems."""
    task = get_task(f"gym:chain_sum {json.dumps(OPTIONS)}", chat=chat_template_of(chat_tokenizer(), source="tests"))
    made = [task.made("p", fields, 1) for fields in task.problem_many([(str(n), 1) for n in range(400)])]
    pairs = [(task.prompt(p), p.question.rpartition(": ")[2], p.gold) for p in made]
    texts = [prompt + answer for prompt, answer in examples(pairs, random.Random(0), 100)]
    write_tiny_chat(folder, seed=0, texts=texts, vocabulary=640, ffn=192, context=CONTEXT, sharpness=1.0)
    teach(folder, partial(examples, pairs), steps=450, batch=24, seed=0)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """All stages, run in order in a folder of their own."""
    path = ":".join(p for p in sys.path if p)  # where the package is, if not in the environment
    checkout = linked(tmp_path_factory.mktemp("gym") / "astro", "smoke", SETTINGS, PYTHONPATH=path)
    ended = checkout.run("python", "-c", STAGES)
    print(f"{ended.seconds:.0f} s\n{ended.out}")
    return checkout


def test_the_sets_share_no_problem(done: Checkout):
    files = {"train": "train", "rl": "rl", "eval_sums": "eval/sums"}
    sets = {n: list(read_jsonl(done.root / f"data/problems/{f}.jsonl", Problem)) for n, f in files.items()}
    assert {name: len(found) for name, found in sets.items()} == {"train": 12, "rl": 6, "eval_sums": 8}
    questions = [p.question for found in sets.values() for p in found]
    assert len(set(questions)) == len(questions) == 26


def test_every_stage_knows_right_from_wrong(done: Checkout):
    trees = read_json(done.root / "metrics/mcts.json", MctsMetrics)
    assert trees.trees == 12
    assert trees.valid > 0
    chains = read_json(done.root / "metrics/linearize.json", LinearizeMetrics)
    assert chains.traces > 0
    metrics = read_json(done.root / "metrics/eval.json", EvalMetrics)
    assert set(metrics.sets) == {"sums"}


def test_verdicts_of_completions_are_those_of_the_scorer(done: Checkout):
    params = read_yaml(done.root / "params.yaml")
    task = get_task(f"gym:chain_sum {json.dumps(dict(params['run']['options']))}")
    problems = {p.id: p for p in read_jsonl(done.root / "data/problems/eval/sums.jsonl", Problem)}
    found = [
        c for path in sorted((done.root / "data/completions").glob("*.jsonl")) for c in read_jsonl(path, Completion)
    ]
    assert found
    assert {c.verdict for c in found} >= {"correct", "wrong"}
    for one in found:
        answer = task.extract(one.text)
        assert (answer == problems[one.problem_id].gold) == (one.verdict == "correct"), one

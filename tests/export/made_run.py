"""A finished run in a checkout of its own: real records, tiny real models, and the dvc.lock that DVC writes of them.

No stage works: what they would leave is written here, and `dvc commit` records it. That takes seconds.
"""

from pathlib import Path

from astro.files import write_csv, write_json, write_jsonl, write_text
from schemas.base_model import BaseModelMetrics
from schemas.grpo import GrpoMetrics
from schemas.linearize import LinearizeMetrics
from schemas.mcts import MctsMetrics
from schemas.problems import Dropped, ProblemsMetrics, SetMetrics
from schemas.records import StageRecord, Trace
from schemas.sft import SftMetrics
from tests.inference.tiny import save_tiny_model
from tests.pipeline.checkout import Checkout, unpacked
from tests.viz.example import make_completion, make_metrics, make_problem, make_rl_metrics, make_trace, make_tree

ARMS = ("sft", "sft_direct", "grpo", "grpo_direct")


def make_run(root: Path) -> Checkout:
    """The checkout, committed, with a clean `dvc status`."""
    checkout = unpacked(root, HF_HUB_OFFLINE="1")
    write_outs(root)
    checkout.run("git", "init", "-q")
    checkout.run("git", "config", "user.name", "Test")
    checkout.run("git", "config", "user.email", "test@localhost")
    checkout.run("python", "-m", "stages.code")
    checkout.run("dvc", "commit", "--force")
    checkout.commit("A run")
    return checkout


def write_outs(root: Path) -> None:
    """What the stages would have left."""
    problems = [make_problem(f"train-{i}", 24, [3, 5, 7, 9]) for i in range(3)]
    # tests of the page use these seeds too: their trees hold a right end and two wrong ones or more
    trees = [make_tree(problem, seed=3) for problem in problems]
    searching = [make_trace(tree, backtracks=2) for tree in trees]
    direct = [make_trace(tree, backtracks=0) for tree in trees]
    data = root / "data"
    for name, some in (("train", problems), ("rl", problems[:2]), ("eval/numbers_4", problems[2:])):
        write_jsonl(data / f"problems/{name}.jsonl", some)
    write_csv(data / "problems/dropped.csv", Dropped, [])
    write_text(data / "problems/corpus/source.txt", "the task\n")
    write_jsonl(data / "trees/00.jsonl", trees[:2])
    write_jsonl(data / "trees/01.jsonl", trees[2:])
    write_jsonl(data / "traces/train.jsonl", searching)
    write_jsonl(data / "traces/direct.jsonl", direct)
    for seed, model in enumerate(("base", *ARMS)):
        save_tiny_model(root / "models" / model, seed=seed)
        write_jsonl(
            data / f"completions/{model}.jsonl",
            [make_completion(problems[2], model, seed=seed, attempts=1, solve=True)],
        )
        write_text(root / f"metrics/curves/{model}.csv", "step,loss\n1,2.5\n")
    write_text(root / "models/base_raw/README.md", "The base was not warmed up.\n")
    write_metrics(root, searching)


def write_metrics(root: Path, traces: list[Trace]) -> None:
    """metrics/ and records/ of every stage."""
    sets = {name: SetMetrics(size=n, chance=0.05) for name, n in (("train", 3), ("rl", 2), ("eval_numbers_4", 1))}
    longest = max(len(t.completion) for t in traces)
    sft = SftMetrics(examples=3, too_long=0, tokens=1234, steps=2, loss=0.5)
    rl = GrpoMetrics(**make_rl_metrics(pass_rate=None, first=-0.5, last=0.25, steps=7), restart_prompts=0)
    stages = {
        "problems": ProblemsMetrics(sets=sets, dropped=1),
        "base": BaseModelMetrics(parameters=54321, vocabulary=40, tokens=1000, loss=1.25),
        "mcts": MctsMetrics(
            trees=3,
            solved=1.0,
            valid=1.0,
            nodes=40.0,
            depth=3.0,
            tokens=9360,
            requests=192,
            tokens_per_valid_tree=3120.0,
            rollout_accuracy=0.4,
        ),
        "linearize": LinearizeMetrics(
            traces=3,
            direct=0,
            search=3,
            trees_used=3,
            trees_unsolved=0,
            trees_filtered=0,
            backtracks=2.0,
            characters=float(longest),
            longest=longest,
        ),
        **dict.fromkeys(("sft", "sft_direct"), sft),
        **dict.fromkeys(("grpo", "grpo_direct"), rl),
        "eval": make_metrics(),
    }
    for name, metrics in stages.items():
        write_json(root / f"metrics/{name}.json", metrics)
        record = StageRecord(stage=name, run_id="", started=0.0, seconds=1.0, host="here", peak_memory_gb=0.1)
        write_json(root / f"records/{name}.json", record)
    for gate in ("problems", "mcts", "linearize"):
        write_json(root / f"metrics/gate_{gate}.json", {"success": True})

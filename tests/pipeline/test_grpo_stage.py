"""The grpo stage by its command, on a model of random weights: restarts, and what is refused before anything is measured."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from astro.cloning.template import load_phrases
from astro.params import plain, read_yaml
from astro.training.common import save_model
from astro.training.pretrain import new_llama
from astro.training.wordlevel import add_unspellable, build_tokenizer
from schemas.records import Problem, Segment, Trace
from tests.training.test_restarts import SEARCH

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL = {
    "steps": 2,
    "prompts_per_step": 4,
    "group_size": 2,
    "micro_batch": 8,
    "max_completion": 8,
    "restart": {"share": 0.5, "states": "wrong"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkout with what the stage reads."""
    made = tmp_path_factory.mktemp("checkout")
    for name in ("astro", "schemas", "stages", "phrases"):
        shutil.copytree(ROOT / name, made / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "arms.yaml"):
        shutil.copy(ROOT / name, made / name)
    tokenizer = build_tokenizer(60, 256)
    add_unspellable(tokenizer, load_phrases(ROOT / "phrases" / "countdown.yaml").all())
    torch.manual_seed(0)
    model = new_llama(tokenizer, hidden=32, layers=2, heads=2, ffn=48, context=512)
    save_model(model, tokenizer, made / "models" / "sft")
    problems = {
        name: [
            Problem(id=f"{name}{i}", domain="countdown", question="make 24 from 2 3 4", gold="24", level=3, chance=None)
            for i in range(6)
        ]
        for name in ("train", "rl")
    }
    traces = [
        Trace(
            id=f"{p.id}/0",
            problem_id=p.id,
            kind="search",
            prompt="make 24 from 2 3 4\n",
            completion="".join(text for _, text in SEARCH),
            backtracks=1,
            segments=[Segment(text=text, kind=kind, node=None if kind == "reflection" else 1) for kind, text in SEARCH],
            answer="2 * 3 * 4",
        )
        for p in problems["train"]
    ]
    for path, records in [
        ("data/problems/train.jsonl", problems["train"]),
        ("data/problems/rl.jsonl", problems["rl"]),
        ("data/traces/train.jsonl", traces),
    ]:
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_text("".join(r.model_dump_json() + "\n" for r in records))
    return made


def grpo(folder, **changes):
    """Run the stage with changed params: (exit code, what it said)."""
    params = plain(read_yaml(ROOT / "params.yaml"))
    params["grpo"] |= SMALL | changes
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    done = subprocess.run(
        [sys.executable, "-m", "stages.grpo"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "ASTRO_TRACKING": "off", "DVC_ROOT": str(folder), "PYTHONPATH": ""},
    )
    return done.returncode, done.stdout + done.stderr


def test_episodes_restart_and_are_counted(folder):
    code, said = grpo(folder)
    assert code == 0, said[-2000:]
    metrics = json.loads((folder / "metrics" / "grpo.json").read_text())
    assert (metrics["restart_prompts"], metrics["prompts_kept"], metrics["completions"]) == (6, 6, 16)
    header, *rows = (folder / "metrics" / "curves" / "grpo.csv").read_text().splitlines()
    assert {"restarts", "reward_fresh", "reward_restarted"} <= set(header.split(","))
    assert len(rows) == 2
    assert (folder / "models" / "grpo" / "model.safetensors").is_file()
    assert not list((folder / "work" / "grpo").glob("*/episodes.jsonl"))


@pytest.mark.parametrize(
    ("changes", "reason"), [({"max_completion": 510}, "grpo.max_completion: the longest prompt (")]
)
def test_what_cannot_work_is_said_at_once(folder, changes, reason):
    code, said = grpo(folder, restart={"share": 0.0, "states": "any"}, **changes)
    assert code == 2
    assert reason in said
    assert "Traceback" not in said

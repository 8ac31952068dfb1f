"""The grpo stage by its command, on a model of random weights: restarts, and what is refused before anything is measured."""

import json
import re
import shutil
import signal
import subprocess

import pytest
import torch
from ruamel.yaml import YAML

from astro.cloning.verbalize import load_phrases
from astro.params import plain, read_yaml
from astro.tasks.countdown.wording import vocabulary
from astro.training.common import save_model
from astro.training.train_base import new_llama
from astro.training.wordlevel import add_unspellable, build_tokenizer
from schemas.records import Problem, Segment, Trace
from tests.pipeline.checkout import REPOSITORY, Checkout, environment, kill
from tests.training.test_mid_chain_starts import SEARCH

pytestmark = pytest.mark.slow

COMMAND = ("python", "-m", "stages.grpo")
SMALL = {
    "steps": 2,
    "prompts_per_step": 4,
    "group_size": 2,
    "micro_batch": 8,
    "max_completion_length": 8,
    "restart": {"fraction": 0.5, "states": "wrong"},
    "keep": "last",
    "validation": {"problems": 0, "every": 1, "samples": 1, "margin": 1.0, "patience": 0},
}
VALIDATED = {
    "steps": 6,
    "save_every": 2,
    "seeded": True,
    "refills": 1,
    "restart": {"fraction": 0.0, "states": "wrong"},
    "keep": "best",
    "validation": {"problems": 2, "every": 2, "samples": 2, "margin": 1.0, "patience": 0},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkout with what the stage reads."""
    made = tmp_path_factory.mktemp("checkout")
    for name in ("astro", "schemas", "stages", "phrases", "dvc.yaml", "arms.yaml"):
        (made / name).symlink_to(REPOSITORY / name)
    tokenizer = build_tokenizer(vocabulary(60), 256)
    add_unspellable(tokenizer, load_phrases(REPOSITORY / "phrases" / "countdown.yaml").all())
    torch.manual_seed(0)
    model = new_llama(tokenizer, hidden=32, layers=2, heads=2, ffn=48, context=512)
    save_model(model, tokenizer, made / "models" / "sft")
    problems = {
        name: [
            Problem(
                id=f"{name}{i}",
                task="countdown",
                question=f"make {24 + i} from 2 3 {first}",
                gold=str(24 + i),
                level=3,
                chance=None,
            )
            for i in range(6)
        ]
        for name, first in (("train", 4), ("rl", 5), ("eval", 6))
    }
    traces = [
        Trace(
            id=f"{p.id}/0",
            problem_id=p.id,
            kind="search",
            prompt=f"{p.question}\n",
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
        ("data/problems/eval/n3.jsonl", problems["eval"]),
        ("data/traces/train.jsonl", traces),
    ]:
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_text("".join(r.model_dump_json() + "\n" for r in records))
    return made


def write_params(folder, rollouts_mb=10.0, **changes):
    params = plain(read_yaml(REPOSITORY / "params.yaml"))
    params["grpo"] |= SMALL | changes
    params["execution"]["rollouts_mb"] = rollouts_mb
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(params, file)


def checkout(folder):
    return Checkout(folder, environment(ASTRO_TRACKING="off", DVC_ROOT=str(folder)), warm=True)


def grpo(folder, **changes):
    """Run the stage with changed params: (exit code, what it said)."""
    write_params(folder, **changes)
    done = checkout(folder).run(*COMMAND, ok=False)
    return done.code, done.out + done.err


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
    ("changes", "reason"), [({"max_completion_length": 510}, "grpo.max_completion_length: the longest prompt (")]
)
def test_what_cannot_work_is_said_at_once(folder, changes, reason):
    code, said = grpo(folder, restart={"fraction": 0.0, "states": "any"}, **changes)
    assert code == 2
    assert reason in said
    assert "Traceback" not in said


# --- validation and rollouts ------------------------------------------------------------------------------------------


def outs(folder):
    """What the stage leaves: the model, the curve, the metrics, the rollouts."""
    paths = [folder / "models/grpo/model.safetensors", folder / "metrics/curves/grpo.csv", folder / "metrics/grpo.json"]
    (run,) = (folder / "rollouts" / "grpo").iterdir()
    return {p.name: p.read_bytes() for p in [*paths, *sorted(run.iterdir())]}


def forget(folder):
    for name in ("models/grpo", "metrics", "rollouts", "work"):
        shutil.rmtree(folder / name, ignore_errors=True)


@pytest.fixture(scope="module")
def uncut(folder):
    """What a run with validation and dynamic sampling leaves that nobody killed."""
    forget(folder)
    code, said = grpo(folder, **VALIDATED)
    assert code == 0, said[-2000:]
    found = outs(folder)
    forget(folder)
    return found, said


def test_validation_is_in_the_metrics_the_curve_and_on_the_screen(uncut):
    found, said = uncut
    metrics = json.loads(found["grpo.json"])
    points = metrics["validation"]["points"]
    assert [p["step"] for p in points] == [0, 2, 4, 6]
    assert metrics["validation"]["problems"] == 2
    assert metrics["prompts_kept"] == 4
    header, *rows = found["grpo.csv"].decode().splitlines()
    column = header.split(",").index("validation_length")
    assert [row.split(",")[column] != "" for row in rows] == [False, True] * 3
    assert said.count("[grpo] validation after step") == 4
    assert {f"validation-{step:06d}.jsonl.gz" for step in (0, 2, 4, 6)} < set(found)
    assert {f"train-{step:06d}.jsonl.gz" for step in range(1, 7)} < set(found)
    assert found["problems.jsonl"].count(b"\n") == 6


def killed_at(folder, file):
    """SIGKILL when a file appears in the work folder: nothing is published."""
    with checkout(folder).started(*COMMAND) as running:
        running.wait_for(lambda: any((folder / "work/grpo").glob(f"*/{file}")), what=file)
        kill(running.process)
        assert running.end() == -signal.SIGKILL
    assert not (folder / "models/grpo").exists()
    assert not (folder / "rollouts").exists()


def test_kills_and_a_full_disk_change_nothing(folder, uncut):
    """Killed three times, and out of room once: what is left then is that of the run that nothing disturbed."""
    forget(folder)
    write_params(folder, **VALIDATED)
    killed_at(folder, "episodes.jsonl")
    killed_at(folder, "rollouts/validation-000002*")
    (shards,) = (folder / "work/grpo").glob("*/rollouts")
    kept = folder / "kept"
    shutil.copytree(shards, kept)
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(shards)]
    mounted = not subprocess.run(mount, capture_output=True, check=False).returncode
    if mounted:
        try:
            for path in kept.iterdir():
                shutil.copy(path, shards)
            code, said = grpo(folder, **VALIDATED)
            assert code == 2
            assert re.search(r"error: \S+ the rollouts of step \d+ cannot be written: No space left on device", said)
            assert "Traceback" not in said
            assert not (folder / "models/grpo").exists()
        finally:
            subprocess.run(["umount", str(shards)], check=True)
    killed_at(folder, "checkpoint-4/trainer_state.json")
    code, said = grpo(folder, **VALIDATED)
    assert code == 0, said[-2000:]
    assert "resumes from checkpoint-" in said
    assert outs(folder) == uncut[0]
    assert not [p for p in (folder / "work/grpo").glob("*/*") if p.name != "lock"]
    if not mounted:
        pytest.skip("without the full disk: mounting a file system needs privileges that this test run does not have")


@pytest.mark.parametrize(
    ("source", "where"), [("eval/n3", "data/problems/eval/n3.jsonl"), ("train", "data/problems/train.jsonl")]
)
def test_a_validation_set_that_overlaps_is_refused(folder, source, where):
    path = folder / "data/problems/rl.jsonl"
    before = path.read_text()
    twin = json.loads((folder / f"data/problems/{source}.jsonl").read_text().splitlines()[0]) | {"id": "twin"}
    try:
        path.write_text(before + json.dumps(twin) + "\n")
        code, said = grpo(folder, **VALIDATED)
    finally:
        path.write_text(before)
    assert code == 2
    assert (
        f"error: grpo.validation: of the last 2 problems of the rl set, 1 occurs also in {where}, the first is twin"
        in said
    )
    assert "Traceback" not in said

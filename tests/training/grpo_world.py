"""A world for the tests of GRPO in which a random model is right now and then, and a job that a launcher can start."""

import os
import signal
from pathlib import Path

import torch

from astro.tasks.countdown.task import Countdown
from astro.tasks.countdown.wording import vocabulary
from astro.training.grpo import reinforce
from astro.training.train_base import new_llama
from astro.training.wordlevel import build_tokenizer
from schemas.records import Problem

PROBLEMS = [
    Problem(
        id=f"p{i}", task="countdown", question=f"make {10 + i} from 3 8 {1 + i % 7}", gold="1", level=3, chance=None
    )
    for i in range(12)
]

SETTINGS = {
    "steps": 4,
    "prompts_per_step": 4,
    "group_size": 4,
    "micro_batch": 4,
    "num_iterations": 1,
    "lr": 0.01,
    "warmup": 0.0,
    "temperature": 1.0,
    "max_completion_length": 8,
    "beta": 0.0,
    "epsilon": 0.2,
    "epsilon_high": 0.0,
    "delta": 0.0,
    "loss_type": "dapo",
    "importance_level": "token",
    "top_entropy": 1.0,
    "scale_rewards": "group",
    "mask_truncated": False,
    "reward_correct": 1.0,
    "reward_wrong": -1.0,
    "bf16": False,
    "gradient_checkpointing": False,
    "save_every": 2,
    "generation": "hf",
    "seeded": True,
    "keep": "last",
    "validation": {"problems": 0, "every": 2, "samples": 1, "margin": 1.0, "patience": 0},
    "curriculum": "none",
    "refills": 0,
    "correction": "token_truncate",
    "correction_max": 3.0,
    "lora": {"enabled": False, "r": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear", "quantize": "none"},
    "vllm": {
        "max_model_len": 0,
        "gpu_memory_utilization": 0.3,
        "tensor_parallel_size": 1,
        "sleep": False,
        "dtype": "float32",
        "server": {"url": "http://127.0.0.1:1", "group_port": 51216, "wait_timeout_s": 0.0},
    },
}


class EvenSum(Countdown):
    """Countdown in which a response is right if the numbers in it add up to an even one: there is something to learn."""

    def grade_many(self, problems, texts):
        sums = [sum(int(word) for word in text.split() if word.isdigit()) for text in texts]
        return [(str(total), "wrong" if total % 2 else "correct") for total in sums]


class HalfKnown(EvenSum):
    """As EvenSum, but every completion for a second problem is right: such groups give no gradient."""

    def grade_many(self, problems, texts):
        rows = zip(problems, super().grade_many(problems, texts), strict=True)
        return [(answer, "correct" if int(p.id[1:]) % 2 else verdict) for p, (answer, verdict) in rows]


UNEVEN = {"max_completion_length": 12, "ends": list(range(3, 15))}
"""Several end tokens, as chat models have them: lengths vary."""


def tiny(**sizes):
    """(model, tokenizer): a Llama with random weights."""
    tokenizer = build_tokenizer(vocabulary(60), 256)
    torch.manual_seed(0)
    shape = {"hidden": 32, "layers": 2, "heads": 2, "ffn": 48, "context": 128} | sizes
    return new_llama(tokenizer, **shape), tokenizer


def run(
    work: Path,
    *,
    restarts=(),
    log=lambda row, step: None,
    model=None,
    tokenizer=None,
    problems=PROBLEMS,
    held_out=(),
    rollouts_mb=0.0,
    task=None,
    ends=None,
    **changes,
):
    """(trainer, curve) of a few steps."""
    if model is None:
        model, tokenizer = tiny()
    if ends:
        model.generation_config.eos_token_id = ends
    trainer, curve, _ = reinforce(
        model,
        tokenizer,
        problems,
        restarts=restarts,
        held_out=held_out,
        rollouts_mb=rollouts_mb,
        task=task or EvenSum(),
        settings=SETTINGS | changes,
        seed=1,
        work=work,
        log=log,
        needed=SETTINGS["max_completion_length"] + 16,
    )
    return trainer, curve


def job(given, compute, log):
    """`run` in each process of a launch; `kill`: rank 1 ends itself by SIGKILL after that step, once."""
    rank, work = int(os.environ.get("RANK", "0")), Path(given["work"])

    def watched(row, step):
        log(row, step)
        mark = work / "killed"
        if step == given.get("kill") and not mark.exists() and rank == 0:
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    task = HalfKnown() if given.get("half_known") else EvenSum()
    trainer, curve = run(work, log=watched, task=task, **given["changes"])
    whole = trainer.accelerator.unwrap_model(trainer.model).state_dict()
    if rank == 0:
        torch.save(whole, work / "weights.pt")
    return {"curve": curve, "world": trainer.accelerator.num_processes}

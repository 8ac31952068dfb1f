"""The speed of RL steps against the bare sum of their work: sampling of as many tokens, and one update on the same batch.

    python -m benchmarks.rl_step [steps] [arm] [generation ...]

Takes models/sft* and data/problems/rl.jsonl of the workspace (make run first) and params.yaml. Each way to sample ("hf",
"vllm_colocate") runs in a new interpreter, through `astro.training.grpo.reinforce` without validation. Bare sampling is one
call of transformers or vLLM for the same prompts. A bare update is forward, backward and one AdamW step. The share is the time
that the bare work would take for the same number of tokens, divided by the time of the steps.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from astro.files import read_jsonl
from astro.params import load_params
from astro.process import run_stage
from astro.tasks import get_task
from astro.training import grpo
from astro.training.common import load_causal_lm, wants_bf16
from schemas.records import Problem
from stages.grpo import PROBLEMS, rl_settings

DEFAULT_STEPS, WARM = 6, 2
"""Steps that are measured, and steps before them, which also load and compile."""


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result) of one call."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def timed_trainer(
    plain: type[Any], spans: dict[str, float], batches: list[tuple[list[list[int]], list[list[int]]]]
) -> type[Any]:
    """The trainer of RL, which adds up its seconds in `spans` and keeps (prompts, completions) of the measured steps."""

    class Timed(plain):
        """As `Rollouts`."""

        def _generate_single_turn(self, prompt_ids: list[list[int]], *more: Any, **options: Any) -> Any:
            took, made = seconds(lambda: super(Timed, self)._generate_single_turn(prompt_ids, *more, **options))
            if self.state.global_step >= WARM:
                spans["sampling"] += took
                batches.append((prompt_ids, made[0]))
            return made

        def log(self, logs: dict[str, float], *more: Any, **options: Any) -> None:
            """Called once at the end of each step."""
            now = time.perf_counter()
            if self.state.global_step > WARM and "loss" in logs:
                spans["steps"] += now - spans["last"]
            spans["last"] = now
            super().log(logs, *more, **options)

    return Timed


def measure(steps: int, arm: str, generation: str) -> None:
    """Run the steps, then the bare work. The last line printed is a JSON object with the figures."""
    params = load_params()
    changed = params.grpo.model_copy(update={"steps": WARM + steps, "generation": generation, "refills": 0})
    here: Any = SimpleNamespace(params=params.model_copy(update={"grpo": changed}))  # what it reads of a stage
    settings = rl_settings(here)
    model, tokenizer = load_causal_lm(Path("models") / arm, name=arm, dtype=getattr(torch, changed.dtype))
    spans: dict[str, float] = dict.fromkeys(("sampling", "steps", "last"), 0.0)
    batches: list[tuple[list[list[int]], list[list[int]]]] = []
    plain = grpo.rollouts_trainer
    grpo.rollouts_trainer = lambda: timed_trainer(plain(), spans, batches)
    with tempfile.TemporaryDirectory(prefix="rl-step-") as work:
        trainer, _, _ = grpo.reinforce(
            model,
            tokenizer,
            list(read_jsonl(PROBLEMS, Problem)),
            task=get_task(params.run.spec),
            settings=settings,
            seed=params.run.seed,
            work=Path(work) / "grpo",
            log=lambda *_: None,
            needed=params.engine.max_model_len,
        )
        sampled, bare_sampled = sum(len(c) for _, made in batches for c in made), 0
        bare = {"sampling": 0.0, "update": 0.0}
        for prompts, completions in batches:
            took, count = seconds(partial(sample, trainer, prompts))
            bare["sampling"] += took
            bare_sampled += count
            bare["update"] += seconds(partial(update, trainer, prompts, completions, changed.micro_batch))[0]
    figures = {
        "tokens": sampled,
        "steps_s": spans["steps"],
        "sampling_s": spans["sampling"],
        "bare_sampling_s": bare["sampling"] * sampled / bare_sampled,
        "bare_update_s": bare["update"],
    }
    print(json.dumps(figures), flush=True)


def padded(rows: list[list[int]], value: int, *, left: bool) -> torch.Tensor:
    """Rows of token ids as one tensor, (rows, longest)."""
    long = max(map(len, rows))
    return torch.tensor([[value] * (long - len(r)) + r if left else r + [value] * (long - len(r)) for r in rows])


def sample(trainer: Any, prompts: list[list[int]]) -> int:
    """Sample a completion for each prompt by one call. Returns the number of tokens."""
    if trainer.use_vllm:
        from vllm import SamplingParams

        wanted = SamplingParams(temperature=trainer.temperature, max_tokens=trainer.max_completion_length)
        made = trainer.vllm_generation.llm.llm.generate(
            [{"prompt_token_ids": p} for p in prompts], sampling_params=wanted, use_tqdm=False
        )
        return sum(len(one.outputs[0].token_ids) for one in made)
    ids = padded(prompts, -1, left=True)
    with torch.no_grad():
        found = trainer.model.generate(
            ids.clamp_min(0), attention_mask=(ids >= 0).long(), generation_config=trainer.generation_config
        )[:, ids.shape[1] :]
    ended = torch.isin(found, torch.tensor(sorted(trainer.ends))).int()
    return int((ended.cumsum(1) - ended == 0).sum())


def update(trainer: Any, prompts: list[list[int]], completions: list[list[int]], micro_batch: int) -> None:
    """Forward, backward and one step of the optimizer on a batch, with made-up advantages."""
    model = trainer.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    for start in range(0, len(prompts), micro_batch):
        part = slice(start, start + micro_batch)
        asked, made = padded(prompts[part], -1, left=True), padded(completions[part], -1, left=False)
        ids = torch.cat([asked, made], dim=1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=wants_bf16(trainer.args.bf16)):
            logits = model(ids.clamp_min(0), attention_mask=(ids >= 0).long(), logits_to_keep=made.shape[1] + 1).logits[
                :, :-1
            ]
        chosen = logits.float().log_softmax(-1).gather(-1, made.clamp_min(0)[..., None])[..., 0]
        advantages = torch.linspace(-1, 1, len(ids))[:, None]
        (-(chosen * advantages * (made >= 0)).sum() / (made >= 0).sum()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def main() -> None:
    """Print a line for each way to sample."""
    if sys.argv[1:2] == ["measure"]:
        measure(int(sys.argv[2]), sys.argv[3], sys.argv[4])
        return
    steps, arm = (int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_STEPS), (sys.argv[2:3] or ["sft"])[0]
    print(
        f"{steps} steps of {arm}\nsampling         tokens/s   a step   sampling   bare sampling   bare update   share"
    )
    for generation in sys.argv[3:] or ("hf", "vllm_colocate"):
        command = [sys.executable, "-m", "benchmarks.rl_step", "measure", str(steps), arm, generation]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        row = json.loads(result.stdout.splitlines()[-1])
        bare = row["bare_sampling_s"] + row["bare_update_s"]
        print(
            f"{generation:15} {row['tokens'] / row['steps_s']:9.0f} {row['steps_s'] / steps:6.1f} s "
            f"{row['sampling_s'] / steps:8.1f} s {row['bare_sampling_s'] / steps:13.1f} s "
            f"{row['bare_update_s'] / steps:11.1f} s {bare / row['steps_s']:7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    run_stage(main)

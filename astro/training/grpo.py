"""Reinforcement learning with TRL's GRPOTrainer and the verifier as reward (paper section 3.2)."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from datasets import Dataset

from astro.domains import Domain
from astro.training.common import Curve, last_checkpoint, quiet, use_cores, wants_bf16
from schemas.records import Problem

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

CURVE = {
    "reward": "reward",
    "reward_std": "reward_std",
    "frac_reward_zero_std": "zero_variance",
    "completions/mean_length": "length",
    "completions/clipped_ratio": "truncated",
    "entropy": "entropy",
    "kl": "kl",
    "loss": "loss",
    "learning_rate": "lr",
    "backtracks": "backtracks",
    "first_attempt": "first_attempt",
    "accuracy": "accuracy",
    "repeats": "repeats",
}
"""What TRL logs -> our names (docs/metrics.md)."""


def make_reward(domain: Domain, problems: dict[str, Problem], *, correct: float, wrong: float):
    """TRL reward function: the verifier's verdict on each completion.

    An unparseable gold gives None, so TRL leaves the sample out: it must never reward, nor punish.
    """

    def verifier(prompts, completions, problem_id, log_metric=None, **_) -> list[float | None]:
        asked = [problems[identifier] for identifier in problem_id]
        verdicts = [verdict for _, verdict in domain.grade_many(asked, completions)]
        # The question of an unparseable gold may be unreadable too, so there is no chain to read.
        graded = [i for i, verdict in enumerate(verdicts) if verdict != "unparseable_gold"]
        chains = domain.parse_many([asked[i] for i in graded], [completions[i] for i in graded])
        if log_metric is not None:
            first = sum(bool(c.attempts and c.nodes[c.attempts[0]].right) for c in chains)
            log_metric("backtracks", sum(len(c.back_edges) for c in chains) / len(completions))
            log_metric("first_attempt", first / len(completions))
            log_metric("accuracy", verdicts.count("correct") / len(completions))
            attempts = sum(len(c.attempts) for c in chains)
            log_metric("repeats", sum(c.repeats for c in chains) / attempts if attempts else 0.0)
        values = {"unparseable_gold": None, "correct": correct}
        return [values.get(verdict, wrong) for verdict in verdicts]

    return verifier


def reinforce(
    model,
    tokenizer,
    problems: Sequence[Problem],
    *,
    domain: Domain,
    settings: dict,
    seed: int,
    work: Path,
    log: Callable[[dict[str, float], int], None],
) -> tuple[torch.nn.Module, list[dict[str, float]], int]:
    """Train on `problems`; goes on from a checkpoint in `work`.

    Args:
        settings: the values of schemas.grpo.GrpoParams.

    Returns:
        The model, its curve (step, reward, length, ...), and the optimizer steps done.

    Raises:
        ValueError: fewer problems than one step takes.
    """
    from trl import GRPOConfig

    from astro.training.prompts import TextPromptTrainer

    prompts = settings["prompts_per_step"]
    if len(problems) < prompts:
        raise ValueError(
            f"grpo: {len(problems)} problems passed the pass-rate filter, one step takes prompts_per_step {prompts}; "
            "widen grpo.pass_rate, raise grpo.pass_rate.problems, or take fewer prompts per step"
        )
    use_cores()
    completions = prompts * settings["group_size"]
    curve = Curve(CURVE, label=work.parent.name, log=log)
    arguments = GRPOConfig(
        output_dir=str(work),
        max_steps=settings["steps"],
        per_device_train_batch_size=settings["micro_batch"],
        gradient_accumulation_steps=completions // settings["micro_batch"],  # one optimizer step per generation
        num_generations=settings["group_size"],
        learning_rate=settings["lr"],
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=settings["warmup"],
        temperature=settings["temperature"],
        max_completion_length=settings["max_completion"],
        beta=settings["beta"],
        epsilon=settings["epsilon"],
        loss_type=settings["loss_type"],
        scale_rewards=settings["scale_rewards"],
        mask_truncated_completions=settings["mask_truncated"],
        bf16=wants_bf16(settings["bf16"]),
        gradient_checkpointing=settings["gradient_checkpointing"],
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        save_steps=settings["save_every"],
        save_total_limit=2,
        seed=seed,
        data_seed=seed,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        log_completions=False,
    )
    rows = [{"prompt": domain.prompt(p), "problem_id": p.id} for p in problems]
    trainer = TextPromptTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        reward_funcs=make_reward(
            domain, {p.id: p for p in problems}, correct=settings["reward_correct"], wrong=settings["reward_wrong"]
        ),
        callbacks=[curve],
    )
    quiet(trainer)
    trainer.train(resume_from_checkpoint=last_checkpoint(work))
    return (
        trainer.accelerator.unwrap_model(trainer.model),
        curve.rows(trainer.state.log_history),
        trainer.state.global_step,
    )

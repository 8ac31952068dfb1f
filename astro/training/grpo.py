"""Reinforcement learning with TRL's GRPOTrainer and the verifier as reward (paper section 3.2)."""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from astro.compute import split_batch
from astro.domains import Domain
from astro.training.adapters import lora_config
from astro.training.common import Curve, StopNotFinite, last_checkpoint, quiet, use_cores, wants_bf16
from astro.training.trl_patches import colocated_on_cpu, rollouts_trainer, spare_vllm
from schemas.records import Problem

if TYPE_CHECKING:
    from trl import GRPOTrainer

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
    "restarts": "restarts",
    "reward_fresh": "reward_fresh",
    "reward_restarted": "reward_restarted",
    "sampling/sampling_logp_difference/mean": "sampler_gap",
    "sampling/importance_sampling_ratio/mean": "sampler_ratio",
}
"""What TRL logs -> our names (docs/metrics.md)."""

BATCH = "grpo.prompts_per_step * group_size"
"""Of a step, over all processes."""


def make_reward(
    domain: Domain, problems: dict[str, Problem], *, correct: float, wrong: float
) -> Callable[..., list[float | None]]:
    """TRL reward function: the verifier's verdict on each whole response.

    A completion that goes on from the middle of a chain is graded with what it goes on from (column `prefix`, "" for an episode
    from the problem). An unparseable gold gives None, so TRL leaves the sample out: it must never reward, nor punish.
    """

    def verifier(
        prompts: Sequence[str],
        completions: Sequence[str],
        problem_id: Sequence[str],
        prefix: Sequence[str] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **_: Any,
    ) -> list[float | None]:
        asked = [problems[identifier] for identifier in problem_id]
        begun = prefix or [""] * len(completions)
        responses = [before + text for before, text in zip(begun, completions, strict=True)]
        verdicts = [verdict for _, verdict in domain.grade_many(asked, responses)]
        values = {"unparseable_gold": None, "correct": correct}
        rewards = [values.get(verdict, wrong) for verdict in verdicts]
        if log_metric is not None:
            whole = [
                row
                for row, before in zip(zip(asked, responses, verdicts, strict=True), begun, strict=True)
                if not before
            ]
            log_behaviour(domain, whole, log_metric)
            if prefix is not None:
                log_restarts(begun, rewards, log_metric)
        return rewards

    return verifier


def log_behaviour(domain: Domain, rows: Sequence[tuple[Problem, str, str]], log: Callable[[str, float], None]) -> None:
    """How often completions go back, are right at once, are right, and repeat themselves; rows: (problem, text, verdict)."""
    if not rows:
        return
    # The question of an unparseable gold may be unreadable too, so there is no chain to read.
    graded = [(problem, text) for problem, text, verdict in rows if verdict != "unparseable_gold"]
    chains = domain.parse_many([problem for problem, _ in graded], [text for _, text in graded])
    first = sum(bool(c.attempts and c.nodes[c.attempts[0]].right) for c in chains)
    log("backtracks", sum(len(c.back_edges) for c in chains) / len(rows))
    log("first_attempt", first / len(rows))
    log("accuracy", sum(verdict == "correct" for _, _, verdict in rows) / len(rows))
    attempts = sum(len(c.attempts) for c in chains)
    log("repeats", sum(c.repeats for c in chains) / attempts if attempts else 0.0)


def log_restarts(begun: Sequence[str], rewards: Sequence[float | None], log: Callable[[str, float], None]) -> None:
    """The share of episodes that were restarts, and the rewards of both kinds: one by one, since processes hold uneven parts."""
    for before, reward in zip(begun, rewards, strict=True):
        log("restarts", float(bool(before)))
        if reward is not None:
            log("reward_restarted" if before else "reward_fresh", reward)


def loss_arguments(settings: dict) -> dict:
    """What GRPOConfig takes of the loss."""
    return {
        "beta": settings["beta"],
        "epsilon": settings["epsilon"],
        "epsilon_high": settings["epsilon_high"] or None,
        "delta": settings["delta"] or None,
        "loss_type": settings["loss_type"],
        "importance_sampling_level": settings["importance_level"],
        "top_entropy_quantile": settings["top_entropy"],
        "num_iterations": settings["num_iterations"],
        "scale_rewards": settings["scale_rewards"],
        "mask_truncated_completions": settings["mask_truncated"],
    }


def vllm_arguments(settings: dict, *, needed: int) -> dict:
    """What GRPOConfig takes of vLLM; {} where it does not generate. needed: tokens of the longest prompt and a completion."""
    if settings["generation"] == "hf":
        return {}
    vllm, correction = settings["vllm"], settings["correction"]
    return {
        "use_vllm": True,
        "vllm_mode": settings["generation"].removeprefix("vllm_"),
        "vllm_max_model_length": vllm["max_model_len"] or needed,
        "vllm_gpu_memory_utilization": vllm["gpu_memory_utilization"],
        "vllm_tensor_parallel_size": vllm["tensor_parallel_size"],
        "vllm_enable_sleep_mode": vllm["sleep"],
        "vllm_server_base_url": vllm["server"]["url"].rstrip("/"),
        "vllm_server_timeout": vllm["server"]["patience_s"],
        "vllm_group_port": vllm["server"]["group_port"],
        "vllm_importance_sampling_correction": correction != "none",
        "vllm_importance_sampling_mode": "token_truncate" if correction == "none" else correction,
        "vllm_importance_sampling_clip_max": settings["correction_max"],
    }


def reinforce(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    *,
    restarts: Sequence[tuple[Problem, str]] = (),
    domain: Domain,
    settings: dict,
    seed: int,
    work: Path,
    log: Callable[[dict[str, float], int], None],
    micro_batch: int = 0,
    needed: int = 0,
) -> "tuple[GRPOTrainer, list[dict[str, float]], int]":
    """Train on `problems`; goes on from a checkpoint in `work`.

    In several processes (torchrun's environment) each takes its part of every step: the step's completions are
    `prompts_per_step` * `group_size` in all, whatever the number of processes.

    Args:
        restarts: (problem, beginning of a chain) of episodes that go on from there.
        settings: the values of schemas.grpo.GrpoParams.
        micro_batch: of the compute profile, completions per pass of one process; 0: the one of the settings.
        needed: tokens of the longest prompt and a completion, which vLLM must hold.

    Returns:
        The trainer, its curve (step, reward, length, ...), and the optimizer steps done.

    Raises:
        ValueError: fewer problems than one step takes, or its completions cannot be shared out evenly.
    """
    if settings["generation"] == "hf":
        spare_vllm()
    from trl import GRPOConfig

    prompts = settings["prompts_per_step"]
    if len(problems) + len(restarts) < prompts:
        raise ValueError(
            f"grpo: {len(problems)} problems passed the pass-rate filter, one step takes prompts_per_step {prompts}; "
            "widen grpo.pass_rate, raise grpo.pass_rate.problems, or take fewer prompts per step"
        )
    use_cores()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    completions = prompts * settings["group_size"]
    size, passes = split_batch(completions, micro_batch or settings["micro_batch"], processes, BATCH)
    curve = Curve(CURVE, label=work.parent.name, log=log)
    cuda = torch.cuda.is_available()
    arguments = GRPOConfig(
        output_dir=str(work),
        max_steps=settings["steps"],
        per_device_train_batch_size=size,
        gradient_accumulation_steps=passes,  # num_iterations optimizer steps per generation
        num_generations=settings["group_size"],
        learning_rate=settings["lr"],
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=settings["warmup"],
        temperature=settings["temperature"],
        max_completion_length=settings["max_completion"],
        **loss_arguments(settings),
        **vllm_arguments(settings, needed=needed),
        bf16=wants_bf16(settings["bf16"]),
        gradient_checkpointing=settings["gradient_checkpointing"],
        use_cpu=not cuda,
        logging_nan_inf_filter=False,  # it would show a loss that is not finite as the mean so far
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
    finite = StopNotFinite("grpo", "grpo.lr")
    with placed(settings["generation"], cuda=cuda):
        trainer = rollouts_trainer()(
            run_seed=seed if settings["seeded"] else None,
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list(rows_of(problems, restarts, domain)),
            processing_class=tokenizer,
            reward_funcs=make_reward(
                domain,
                {p.id: p for p in [*problems, *(p for p, _ in restarts)]},
                correct=settings["reward_correct"],
                wrong=settings["reward_wrong"],
            ),
            peft_config=lora_config(settings["lora"], new_tokens=False),
            callbacks=[finite, curve],
        )
    quiet(trainer)
    try:
        trainer.train(resume_from_checkpoint=last_checkpoint(work, arguments))
    except RuntimeError as error:
        if "probability tensor" not in str(error):  # torch.multinomial, where the model samples from its own NaN
            raise
        raise finite.fault(trainer.state, "the model's probabilities are not finite") from None
    return trainer, curve.rows(trainer.state.log_history), trainer.state.global_step


def rows_of(problems: Sequence[Problem], restarts: Sequence[tuple[Problem, str]], domain: Domain) -> list[dict]:
    """The episodes that a step's prompts are drawn from; `prefix` only where some are restarts."""
    if not restarts:
        return [{"prompt": domain.prompt(p), "problem_id": p.id} for p in problems]
    begun = [*((p, "") for p in problems), *restarts]
    return [{"prompt": domain.prompt(p) + prefix, "problem_id": p.id, "prefix": prefix} for p, prefix in begun]


def placed(generation: str, *, cuda: bool) -> contextlib.AbstractContextManager[None]:
    """What a trainer is made in: on a CPU vLLM needs other handling than TRL's."""
    if generation != "vllm_colocate" or cuda:
        return contextlib.nullcontext()
    return colocated_on_cpu()

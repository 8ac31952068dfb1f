"""Reinforcement learning with TRL's GRPOTrainer and the verifier as reward (paper section 3.2)."""

import contextlib
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from astro.compute import split_batch
from astro.runtime import UserError
from astro.tasks import Task
from astro.training.checkpoints import STATE
from astro.training.common import Curve, StopNotFinite, last_checkpoint, quiet, use_cores, wants_bf16
from astro.training.lora import lora_config
from astro.training.rl_validation import Validation, points_of, read_rollouts, should_stop
from astro.training.rollouts import FOLDER, RolloutWriter
from astro.training.trl_overrides import colocated_on_cpu, rollouts_trainer, spare_vllm
from schemas.grpo import ValidationPoint
from schemas.records import Problem
from schemas.rollouts import RlRollout

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
    "groups_dropped": "groups_dropped",
    "flat_groups": "flat_groups",
    "sampled_tokens": "sampled_tokens",
    "sampled_accuracy": "sampled_accuracy",
    "sampling/sampling_logp_difference/mean": "sampler_gap",
    "sampling/importance_sampling_ratio/mean": "sampler_ratio",
}
"""What TRL logs -> our names (docs/metrics.md)."""

BATCH = "grpo.prompts_per_step * group_size"
"""Of a step, over all processes."""


class Verifier:
    """TRL reward function: the verifier's verdict on each whole response.

    A completion that goes on from the middle of a chain is graded with what it goes on from (column `prefix`, "" for an episode
    from the problem). An unparseable gold gives None, so TRL leaves the sample out: it must never reward, nor punish.
    """

    __name__ = "verifier"  # TRL asks for it

    def __init__(
        self,
        task: Task,
        problems: dict[str, Problem],
        *,
        correct: float,
        wrong: float,
        keep: Callable[[int, list[RlRollout]], None] | None = None,
    ) -> None:
        """keep(step, this process's rollouts of a step): called once a step, before its rewards are used."""
        self.task, self.problems = task, problems
        self.correct, self.wrong, self.keep = correct, wrong, keep
        self.finished: Callable[[Sequence[int]], bool] = bool
        self._known: dict[tuple[str, str, str], list[RlRollout]] = {}
        self._dropped: list[RlRollout] = []

    def reward_of(self, verdict: str) -> float | None:
        """The reward of one verdict."""
        return {"unparseable_gold": None, "correct": self.correct}.get(verdict, self.wrong)

    def rewards(
        self, rows: Sequence[dict], texts: Sequence[str], ids: Sequence[Sequence[int]], *, step: int
    ) -> list[float | None]:
        """Rewards of completions that may yet be dropped (`drop`) before the step trains on the others."""
        read = self._read([r["problem_id"] for r in rows], [r.get("prefix", "") for r in rows], texts, ids, step)
        for rollout in read:
            self._known.setdefault((*rollout.group, rollout.text), []).append(rollout)
        return [self.reward_of(rollout.verdict) for rollout in read]

    def drop(self, completions: Sequence[tuple[dict, str]]) -> None:
        """Note (row, text) of completions that the step does not train on."""
        for row, text in completions:
            rollout = self._known[row["problem_id"], row.get("prefix", ""), text].pop(0)
            self._dropped.append(rollout.model_copy(update={"used": False}))

    def _read(
        self,
        problem_ids: Sequence[str],
        prefixes: Sequence[str],
        texts: Sequence[str],
        ids: Sequence[Sequence[int]],
        step: int,
    ) -> list[RlRollout]:
        return read_rollouts(
            self.task,
            [self.problems[i] for i in problem_ids],
            prefixes,
            texts,
            ids,
            finished=self.finished,
            kind="train",
            step=step,
            reward=self.reward_of,
        )

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        problem_id: Sequence[str],
        prefix: Sequence[str] | None = None,
        completion_ids: Sequence[Sequence[int]] | None = None,
        trainer_state: TrainerState | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **_: Any,
    ) -> list[float | None]:
        """As TRL calls it: the rewards of the completions that a step trains on."""
        begun, ids = prefix or [""] * len(completions), completion_ids or [[]] * len(completions)
        step = trainer_state.global_step + 1 if trainer_state is not None else 1
        if self._known:  # graded by `rewards` already
            rollouts = [self._known[key].pop(0) for key in zip(problem_id, begun, completions, strict=True)]
        else:
            rollouts = self._read(problem_id, begun, completions, ids, step)
        if self.keep is not None:
            self.keep(step, [*rollouts, *self._dropped])
        self._known, self._dropped = {}, []
        rewards = [self.reward_of(rollout.verdict) for rollout in rollouts]
        for rollout, reward in zip(rollouts, rewards, strict=True):
            if reward is not None and not math.isfinite(reward):
                raise UserError(
                    f"grpo: step {step}: the reward of a completion of {rollout.problem_id} is {reward}. Nothing was published, "
                    "and the rollouts of the step are kept; check grpo.reward_correct and grpo.reward_wrong"
                )
        if log_metric is not None:
            log_behaviour([rollout for rollout in rollouts if not rollout.prefix], log_metric)
            if prefix is not None:
                log_restarts(begun, rewards, log_metric)
        return rewards


def log_behaviour(rollouts: Sequence[RlRollout], log: Callable[[str, float], None]) -> None:
    """How often completions go back, are right at once, are right, and repeat themselves."""
    if not rollouts:
        return
    chains = [rollout.chain for rollout in rollouts]
    first = sum(bool(c.attempts and c.nodes[c.attempts[0]].right) for c in chains)
    log("backtracks", sum(len(c.back_edges) for c in chains) / len(rollouts))
    log("first_attempt", first / len(rollouts))
    log("accuracy", sum(rollout.verdict == "correct" for rollout in rollouts) / len(rollouts))
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
    task: Task,
    settings: dict,
    seed: int,
    work: Path,
    log: Callable[[dict[str, float], int], None],
    held_out: Sequence[Problem] = (),
    rollouts_mb: float = 0.0,
    micro_batch: int = 0,
    needed: int = 0,
) -> "tuple[GRPOTrainer, list[dict[str, float]], int]":
    """Train on `problems`; goes on from a checkpoint in `work`.

    In several processes (torchrun's environment) each takes its part of every step: the step's completions are
    `prompts_per_step` * `group_size` in all, whatever the number of processes.

    Args:
        restarts: (problem, beginning of a chain) of episodes that go on from there.
        settings: the values of schemas.grpo.GrpoParams.
        held_out: what the model is validated on; none: it is not.
        rollouts_mb: of the shards in `work`/rollouts (astro/training/rollouts.py); 0: no rollout is kept.
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
    label = work.parent.name
    curve = Curve(CURVE, label=label, log=log)
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
        save_total_limit=2 if settings["keep"] == "last" else 3,  # the best one among them
        shuffle_dataset=settings["curriculum"] == "none",
        seed=seed,
        data_seed=seed,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        log_completions=False,
    )
    main = int(os.environ.get("RANK", "0")) == 0
    writer = RolloutWriter(work / FOLDER, limit_mb=rollouts_mb) if main and rollouts_mb else None

    def keep(kind: str, step: int, rows: list[RlRollout]) -> None:
        """Keep the rollouts of all processes."""
        if rollouts_mb and kind == "train":
            rows = numbered(gather_object(rows))
        if writer is not None:
            writer.write(kind, step, rows)

    note = f"; its rollouts are in {work / FOLDER}" if rollouts_mb else ""
    finite = StopNotFinite("grpo", "grpo.lr", note)
    verifier = Verifier(
        task,
        {p.id: p for p in [*problems, *(p for p, _ in restarts)]},
        correct=settings["reward_correct"],
        wrong=settings["reward_wrong"],
        keep=lambda step, rows: keep("train", step, rows),
    )
    callbacks: list[TrainerCallback] = [WatchGradient(settings, label=label), finite, curve]
    validation = None
    if held_out:
        validation = Validation(
            held_out, task, settings, label=label, log=log, keep=lambda step, rows: keep("validation", step, rows)
        )
        callbacks.insert(0, validation)  # it asks for a checkpoint, and `finite` looks at the weights before one
    with placed(settings["generation"], cuda=cuda):
        trainer = rollouts_trainer()(
            run_seed=seed,
            seeded=settings["seeded"],
            refills=settings["refills"],
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list(rows_of(problems, restarts, task)),
            processing_class=tokenizer,
            reward_funcs=verifier,
            peft_config=lora_config(settings["lora"], new_tokens=False),
            callbacks=callbacks,
        )
    verifier.finished = trainer.finished
    if validation is not None:
        validation.trainer = trainer
    quiet(trainer)
    checkpoint = last_checkpoint(work, arguments)
    reached = TrainerState.load_from_json(str(Path(checkpoint) / STATE)) if checkpoint else TrainerState()
    if writer is not None:
        writer.resume(reached.global_step)
    margin, patience = settings["validation"]["margin"], settings["validation"]["patience"]
    if held_out and should_stop(reached.log_history, margin=margin, patience=patience):
        trainer.state = reached  # it had stopped early, and was killed before its model was published
    else:
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        except RuntimeError as error:
            if "probability tensor" not in str(error):  # torch.multinomial, where the model samples from its own NaN
                raise
            raise finite.fault(trainer.state, "the model's probabilities are not finite") from None
    history = trainer.state.log_history
    return trainer, with_validation(curve.rows(history), points_of(history)), trainer.state.global_step


def with_validation(rows: list[dict[str, float]], points: Sequence[ValidationPoint]) -> list[dict[str, float]]:
    """The curve with a column for each figure of validation, at the steps that were measured."""
    found = {p.step: {f"validation_{k}": float(v) for k, v in p.model_dump(exclude={"step"}).items()} for p in points}
    return [row | found.get(int(row["step"]), {}) for row in rows]


def numbered(rollouts: Sequence[RlRollout]) -> list[RlRollout]:
    """The rollouts of all processes with their number within the whole group: processes may hold parts of one."""
    counts: Counter[tuple[str, str]] = Counter()
    found = []
    for rollout in rollouts:
        number = counts[rollout.group]
        counts[rollout.group] += 1
        found.append(rollout if rollout.number == number else rollout.model_copy(update={"number": number}))
    return found


class WatchGradient(TrainerCallback):
    """Says so when many groups have equal rewards: they give no gradient, and the step learns from the others alone."""

    STEPS = 5
    """Logged steps that are looked at together."""

    SHARE = 0.5
    """Of groups without a gradient over these steps, from which on it is said."""

    PAUSE = 20
    """Steps between two messages."""

    def __init__(self, settings: dict, *, label: str) -> None:
        """settings: the values of schemas.grpo.GrpoParams."""
        self.settings, self.label = settings, label
        self.recent: list[tuple[float, float, float]] = []
        self.said = -self.PAUSE

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print the message, at most every `PAUSE` steps."""
        row = logs or {}
        if "frac_reward_zero_std" not in row:
            return
        reward = row.get("reward")
        # Of a step without a known reward TRL says neither a mean nor that its groups are flat.
        known = (row["frac_reward_zero_std"], reward) if reward is not None else (1.0, self.settings["reward_wrong"])
        self.recent.append((*known, row.get("completions/clipped_ratio", 0.0)))
        self.recent = self.recent[-self.STEPS :]
        flat, mean, cut = (sum(column) / len(self.recent) for column in zip(*self.recent, strict=True))
        if len(self.recent) < self.STEPS or flat < self.SHARE or state.global_step < self.said + self.PAUSE:
            return
        self.said = state.global_step
        if state.is_world_process_zero:
            print(f"[{self.label}] warning: {self.message(state.global_step, flat, mean, cut)}", flush=True)

    def message(self, step: int, flat: float, reward: float, cut: float) -> str:
        """What was seen, and what to do."""
        low, high = self.settings["reward_wrong"], self.settings["reward_correct"]
        first = step - len(self.recent) + 1
        seen = (
            f"all rewards of every group were equal in steps {first} to {step}, so nothing was learnt"
            if flat >= 1
            else f"{flat:.0%} of the groups in steps {first} to {step} had equal rewards and gave no gradient"
        )
        if (reward - low) / (high - low) > 0.5:
            remedy = "most completions are right: take harder problems, or lower grpo.pass_rate.high"
        else:
            remedy = "most completions are wrong: take easier problems, raise grpo.pass_rate.low, or train SFT longer"
            if cut > 0.5:
                remedy = f"most completions are wrong, and {cut:.0%} are cut: raise grpo.max_completion first"
        return f"{seen}; {remedy}. grpo.refills above 0 replaces such groups, and a larger grpo.group_size makes them rarer"


def rows_of(problems: Sequence[Problem], restarts: Sequence[tuple[Problem, str]], task: Task) -> list[dict]:
    """The episodes that a step's prompts are drawn from; `prefix` only where some are restarts."""
    if not restarts:
        return [{"prompt": task.prompt(p), "problem_id": p.id} for p in problems]
    begun = [*((p, "") for p in problems), *restarts]
    return [{"prompt": task.prompt(p) + prefix, "problem_id": p.id, "prefix": prefix} for p, prefix in begun]


def placed(generation: str, *, cuda: bool) -> contextlib.AbstractContextManager[None]:
    """What a trainer is made in: on a CPU vLLM needs other handling than TRL's."""
    if generation != "vllm_colocate" or cuda:
        return contextlib.nullcontext()
    return colocated_on_cpu()

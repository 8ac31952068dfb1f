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

from astro.compute_profile import split_batch
from astro.process import UserError, plural
from astro.tasks import Task
from astro.training.checkpoint_integrity import STATE
from astro.training.common import Curve, StopNotFinite, last_checkpoint, quiet, use_cores, wants_bf16
from astro.training.lora import lora_config
from astro.training.rl_validation import Validation, points_of, read_rollouts, should_stop
from astro.training.rollout_store import FOLDER, RolloutWriter
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
"""TRL's log keys -> our names (docs/metrics.md)."""

BATCH = "grpo.prompts_per_step * group_size"
"""Name of the batch size of a step, over all processes."""


class Verifier:
    """TRL reward function: the verifier's verdict on each whole response.

    A completion that continues a chain is graded together with the beginning of the chain (column `prefix`; "" for an episode
    that starts at the problem). An unparseable gold gives None, so that TRL leaves the sample out of both reward and penalty.
    """

    __name__ = "verifier"  # TRL reads it

    def __init__(
        self,
        task: Task,
        problems: dict[str, Problem],
        *,
        correct: float,
        wrong: float,
        keep: Callable[[int, list[RlRollout]], None] | None = None,
    ) -> None:
        """Create the verifier.

        Args:
            keep: called once per step with (step, this process's rollouts), before their rewards are used.
        """
        self.task, self.problems = task, problems
        self.correct, self.wrong, self.keep = correct, wrong, keep
        self.finished: Callable[[Sequence[int]], bool] = bool
        self._known: dict[tuple[str, str, str], list[RlRollout]] = {}
        self._dropped: list[RlRollout] = []

    def reward_of(self, verdict: str) -> float | None:
        """The reward for one verdict; None: no reward and no penalty."""
        return {"unparseable_gold": None, "correct": self.correct}.get(verdict, self.wrong)

    def rewards(
        self, rows: Sequence[dict], texts: Sequence[str], ids: Sequence[Sequence[int]], *, step: int
    ) -> list[float | None]:
        """Rewards of completions, some of which may be dropped (`drop`) before the step trains on the others."""
        read = self._read([r["problem_id"] for r in rows], [r.get("prefix", "") for r in rows], texts, ids, step)
        for rollout in read:
            self._known.setdefault((*rollout.group, rollout.text), []).append(rollout)
        return [self.reward_of(rollout.verdict) for rollout in read]

    def drop(self, completions: Sequence[tuple[dict, str]]) -> None:
        """Remember (row, text) of completions that the step does not train on."""
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
        """Called by TRL: the rewards of the completions that a step trains on."""
        begun, ids = prefix or [""] * len(completions), completion_ids or [[]] * len(completions)
        step = trainer_state.global_step + 1 if trainer_state is not None else 1
        if self._known:  # `rewards` has graded them already
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
                    f"grpo: step {step}: the reward of a completion of {rollout.problem_id} is {reward}. Nothing "
                    "was published, and the rollouts of the step are kept. Check grpo.reward_correct and "
                    "grpo.reward_wrong"
                )
        if log_metric is not None:
            log_behaviour([rollout for rollout in rollouts if not rollout.prefix], log_metric)
            if prefix is not None:
                log_restarts(begun, rewards, log_metric)
        return rewards


def log_behaviour(rollouts: Sequence[RlRollout], log: Callable[[str, float], None]) -> None:
    """Log how often completions go back, are right at the first attempt, are right, and repeat themselves."""
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
    """Log the share of restarts and the rewards of both kinds of episodes, one by one, because processes hold uneven parts."""
    for before, reward in zip(begun, rewards, strict=True):
        log("restarts", float(bool(before)))
        if reward is not None:
            log("reward_restarted" if before else "reward_fresh", reward)


def loss_arguments(settings: dict) -> dict:
    """The arguments of GRPOConfig for the loss."""
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
    """The arguments of GRPOConfig for vLLM; {} if it does not generate.

    Args:
        needed: tokens of the longest prompt with its completion.
    """
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
        "vllm_server_timeout": vllm["server"]["wait_timeout_s"],
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
    """Train on `problems` with GRPO; resume from a checkpoint in `work`.

    With several processes (torchrun's environment) each takes its part of every step. The total number of completions
    per step is `prompts_per_step` * `group_size`, whatever the number of processes.

    Args:
        restarts: (problem, beginning of a chain) of episodes that continue a chain.
        settings: the values of schemas.grpo.GrpoParams.
        held_out: validation problems; empty: no validation.
        rollouts_mb: size limit of the shards in `work`/rollouts (astro/training/rollout_store.py); 0: no rollout is stored.
        micro_batch: completions per pass of one process, from the compute profile; 0: the value of the settings.
        needed: tokens of the longest prompt with its completion, which vLLM must hold.

    Returns:
        The trainer, its curve (step, reward, length, ...), and the number of optimizer steps.

    Raises:
        ValueError: there are fewer problems than one step needs, or its completions cannot be divided evenly.
    """
    if settings["generation"] == "hf":
        spare_vllm()
    from trl import GRPOConfig

    prompts = settings["prompts_per_step"]
    if len(problems) + len(restarts) < prompts:
        raise ValueError(
            f"grpo: {plural(len(problems), 'problem')} passed the pass-rate filter, but one step needs prompts_per_step "
            f"{prompts}; widen grpo.pass_rate, raise grpo.pass_rate.problems, or lower prompts_per_step"
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
        gradient_accumulation_steps=passes,  # a generation is used for num_iterations optimizer steps
        num_generations=settings["group_size"],
        learning_rate=settings["lr"],
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=settings["warmup"],
        temperature=settings["temperature"],
        max_completion_length=settings["max_completion_length"],
        **loss_arguments(settings),
        **vllm_arguments(settings, needed=needed),
        bf16=wants_bf16(settings["bf16"]),
        gradient_checkpointing=settings["gradient_checkpointing"],
        use_cpu=not cuda,
        logging_nan_inf_filter=False,  # the filter would replace a non-finite loss by the mean so far
        logging_steps=1,
        save_steps=settings["save_every"],
        save_total_limit=2 if settings["keep"] == "last" else 3,  # one of them is the best so far
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
        """Store the rollouts of all processes."""
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
        callbacks.insert(0, validation)  # validation requests a checkpoint, and `finite` checks weights before one
    with placed(settings, cuda=cuda):
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
        trainer.state = reached  # training had stopped early and was killed before its model was published
    else:
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        except RuntimeError as error:
            if "probability tensor" not in str(error):  # torch.multinomial fails on the NaN of a diverged model
                raise
            raise finite.fault(trainer.state, "the model's probabilities are not finite") from None
    history = trainer.state.log_history
    return trainer, with_validation(curve.rows(history), points_of(history)), trainer.state.global_step


def with_validation(rows: list[dict[str, float]], points: Sequence[ValidationPoint]) -> list[dict[str, float]]:
    """The curve with a column for each validation figure, at the measured steps."""
    found = {p.step: {f"validation_{k}": float(v) for k, v in p.model_dump(exclude={"step"}).items()} for p in points}
    return [row | found.get(int(row["step"]), {}) for row in rows]


def numbered(rollouts: Sequence[RlRollout]) -> list[RlRollout]:
    """The rollouts of all processes, numbered within their whole group, because processes may hold parts of one."""
    counts: Counter[tuple[str, str]] = Counter()
    found = []
    for rollout in rollouts:
        number = counts[rollout.group]
        counts[rollout.group] += 1
        found.append(rollout if rollout.number == number else rollout.model_copy(update={"number": number}))
    return found


class WatchGradient(TrainerCallback):
    """Warns when many groups have equal rewards. They give no gradient, so the step learns only from the others."""

    STEPS = 5
    """Number of logged steps that are averaged."""

    SHARE = 0.5
    """Least share of groups without a gradient, over these steps, for a warning."""

    PAUSE = 20
    """Steps between two messages."""

    def __init__(self, settings: dict, *, label: str) -> None:
        """Create the callback.

        Args:
            settings: the values of schemas.grpo.GrpoParams.
        """
        self.settings, self.label = settings, label
        self.recent: list[tuple[float, float, float]] = []
        self.unread = 0
        self.said = -self.PAUSE

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print the message, at most once every `PAUSE` steps."""
        row = logs or {}
        if "frac_reward_zero_std" not in row:
            return
        reward = row.get("reward")
        # For a step without any known reward TRL logs no mean and no share of flat groups.
        known = (row["frac_reward_zero_std"], reward) if reward is not None else (1.0, self.settings["reward_wrong"])
        self.recent.append((*known, row.get("completions/clipped_ratio", 0.0)))
        self.recent = self.recent[-self.STEPS :]
        self.unread = self.unread + 1 if reward is None else 0
        flat, mean, cut = (sum(column) / len(self.recent) for column in zip(*self.recent, strict=True))
        short = (
            0 < state.max_steps == len(self.recent) < self.STEPS and flat >= 1
        )  # the whole run, and it taught nothing
        if not short and (len(self.recent) < self.STEPS or flat < self.SHARE):
            return
        if state.global_step < self.said + self.PAUSE:
            return
        self.said = state.global_step
        if state.is_world_process_zero:
            print(f"[{self.label}] warning: {self.message(state.global_step, flat, mean, cut)}", flush=True)

    def message(self, step: int, flat: float, reward: float, cut: float) -> str:
        """The observation and a remedy."""
        low, high = self.settings["reward_wrong"], self.settings["reward_correct"]
        first = step - len(self.recent) + 1
        when = f"in steps {first} to {step}" if first < step else f"in step {step}"
        seen = (
            f"{when} the rewards of each group were all equal, so nothing was learned"
            if flat >= 1
            else f"{flat:.0%} of the groups {when} had equal rewards and so no gradient"
        )
        if self.unread >= len(self.recent):
            return f"{seen}; no reference answer of these prompts can be read, so no completion has a reward: check the rl set"
        if (reward - low) / (high - low) > 0.5:
            remedy = "most completions are right, so use harder problems, or lower grpo.pass_rate.high"
        else:
            remedy = "most completions are wrong, so use easier problems, raise grpo.pass_rate.low, or train SFT longer"
            if cut > 0.5:
                remedy = f"most completions are wrong, and {cut:.0%} are cut, so raise grpo.max_completion_length first"
        refills = self.settings["refills"]
        rounds = (
            f"grpo.refills {refills} found no better groups, and more rounds try more prompts"
            if refills
            else "grpo.refills above 0 replaces such groups"
        )
        return f"{seen}; {remedy}. {rounds}, and a larger grpo.group_size makes them rarer"


def rows_of(problems: Sequence[Problem], restarts: Sequence[tuple[Problem, str]], task: Task) -> list[dict]:
    """The episodes from which a step draws its prompts. The column `prefix` exists only if some are restarts."""
    if not restarts:
        return [{"prompt": task.prompt(p), "problem_id": p.id} for p in problems]
    begun = [*((p, "") for p in problems), *restarts]
    return [{"prompt": task.prompt(p) + prefix, "problem_id": p.id, "prefix": prefix} for p, prefix in begun]


def placed(settings: dict, *, cuda: bool) -> contextlib.AbstractContextManager[None]:
    """Context for creating a trainer. On a CPU, vLLM needs other handling than TRL's."""
    if settings["generation"] != "vllm_colocate" or cuda:
        return contextlib.nullcontext()
    return colocated_on_cpu(settings["vllm"]["dtype"])

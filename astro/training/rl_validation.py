"""Validation during RL. Held-out problems are sampled every few steps, to choose the model to publish and when to stop.

The completions use their own seeds, the same at every measurement, through the trainer's own generation. Measurements
therefore compare the same problems and draws, and training samples are the same with and without validation.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from astro.tasks import Task
from schemas.grpo import ValidationPoint
from schemas.records import Chain, Problem
from schemas.rollouts import RlRollout

KEY = "validation"
"""Key of validation entries in the trainer's log history, which checkpoints contain."""


def points_of(history: Sequence[dict]) -> list[ValidationPoint]:
    """The measurements in a trainer's log history, in order."""
    return [ValidationPoint(step=entry["step"], **entry[KEY]["figures"]) for entry in history if KEY in entry]


def best_step(history: Sequence[dict], margin: float) -> int | None:
    """The step whose model is published; None: nothing was measured.

    It is the latest step whose pass@1 is within `margin` standard errors (paired over the problems) of the best one.
    With margin 0 it is the best step, the later one of equals. A few hundred completions cannot distinguish
    neighbouring checkpoints, and the highest is often an early one, so the margin favours longer training.
    """
    measured = [(entry["step"], entry[KEY]["scores"]) for entry in history if KEY in entry]
    if not measured:
        return None
    top = max(measured, key=lambda item: (round(math.fsum(item[1]), 9), item[0]))[1]
    return max(step for step, scores in measured if _lead(top, scores, margin) <= 0)


def _lead(top: Sequence[float], scores: Sequence[float], margin: float) -> float:
    """Mean lead of `top` minus `margin` standard errors."""
    gaps = [a - b for a, b in zip(top, scores, strict=True)]
    mean = math.fsum(gaps) / len(gaps)
    spread = math.fsum((gap - mean) ** 2 for gap in gaps) / max(1, len(gaps) - 1)
    return mean - margin * math.sqrt(spread / len(gaps))


def should_stop(history: Sequence[dict], *, margin: float, patience: int) -> bool:
    """Whether the last `patience` measurements are all later than the checkpoint to be published."""
    best = best_step(history, margin)
    return bool(patience) and best is not None and sum(e["step"] > best for e in history if KEY in e) >= patience


class Validation(TrainerCallback):
    """Trainer callback that measures every few steps, saves a checkpoint each time, and protects the best one from removal."""

    def __init__(
        self,
        problems: Sequence[Problem],
        task: Task,
        settings: dict,
        *,
        label: str,
        log: Callable[[dict[str, float], int], None],
        keep: Callable[[int, list[RlRollout]], None],
    ) -> None:
        """Create the callback.

        Args:
            settings: the values of schemas.grpo.GrpoParams.
            keep: called in every process with (step, rollouts of all processes).
        """
        self.problems, self.task, self.settings = list(problems), task, settings
        self.label, self.log, self.keep = label, log, keep
        self.trainer: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure the SFT model before the first step."""
        if not points_of(state.log_history):
            self._measure(args, state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure at the set interval, and at the end."""
        if state.global_step % self.settings["validation"]["every"] and state.global_step < state.max_steps:
            return
        self._measure(args, state)
        control.should_save = True
        margin, patience = self.settings["validation"]["margin"], self.settings["validation"]["patience"]
        if self.settings["keep"] == "best":
            best = best_step(state.log_history, margin)
            # The trainer keeps the checkpoint with this name regardless of its limit. Step 0 is the SFT model, which
            # exists anyway.
            state.best_model_checkpoint = str(Path(str(args.output_dir)) / f"checkpoint-{best}") if best else None
        if should_stop(state.log_history, margin=margin, patience=patience):
            control.should_training_stop = True

    def _measure(self, args: TrainingArguments, state: TrainerState) -> None:
        """Add one entry to the log history."""
        mine = self.problems[args.process_index :: args.world_size]
        rows: list[RlRollout] = gather_object(list(self._sampled(mine, state.global_step)))
        place = {p.id: i for i, p in enumerate(self.problems)}
        rows.sort(key=lambda row: (place[row.problem_id], row.number))
        self.keep(state.global_step, rows)
        scores = [0.0] * len(self.problems)
        for row in rows:
            scores[place[row.problem_id]] += (row.verdict == "correct") / self.settings["validation"]["samples"]
        count = len(rows)
        figures: dict[str, float] = {
            "pass_at_1": round(sum(row.verdict == "correct" for row in rows) / count, 6),
            "length": round(sum(row.tokens for row in rows) / count, 6),
            "mean_backtracks": round(sum(len(row.chain.back_edges) for row in rows) / count, 6),
            "truncated": round(sum(not row.finished for row in rows) / count, 6),
        }
        history: list[Any] = state.log_history
        history.append({"step": state.global_step, KEY: {"figures": figures, "scores": scores}})
        self.log({f"validation_{name}": value for name, value in figures.items()}, state.global_step)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        print(f"[{self.label}] validation after step {state.global_step}: {shown}", flush=True)

    def _sampled(self, problems: Sequence[Problem], step: int) -> Iterator[RlRollout]:
        """Sample and grade completions of these problems. All processes run the same number of passes, because they sample
        together."""
        samples, world = self.settings["validation"]["samples"], self.trainer.accelerator.num_processes
        room = max(1, self.trainer.completions_at_once // samples)
        share = -(-len(self.problems) // world)
        padded = [*problems, *self.problems[:1] * (share - len(problems))]
        for start in range(0, share, room):
            chosen = padded[start : start + room]
            asked = [p for p in chosen for _ in range(samples)]
            ids = self.trainer.sample_held_out([self.task.prompt(p) for p in asked])
            real = asked[: max(0, len(problems) - start) * samples]
            if not real:
                continue
            texts = self.trainer.texts_of(ids[: len(real)])
            yield from read_rollouts(
                self.task,
                real,
                [""] * len(real),
                texts,
                ids[: len(real)],
                finished=self.trainer.finished,
                kind="validation",
                step=step,
                reward=lambda verdict: None,
            )


def read_rollouts(
    task: Task,
    problems: Sequence[Problem],
    prefixes: Sequence[str],
    texts: Sequence[str],
    ids: Sequence[Sequence[int]],
    *,
    finished: Callable[[Sequence[int]], bool],
    kind: Any,
    step: int,
    reward: Callable[[str], float | None],
) -> list[RlRollout]:
    """Grade completions and parse them as chains. A completion that continues a chain is graded together with its beginning."""
    responses = [before + text for before, text in zip(prefixes, texts, strict=True)]
    grades = task.grade_many(problems, responses)
    # If the gold is unparseable, the question may be as well, so there is no chain to parse.
    readable = [i for i, (_, verdict) in enumerate(grades) if verdict != "unparseable_gold"]
    chains = dict(
        zip(readable, task.parse_many([problems[i] for i in readable], [responses[i] for i in readable]), strict=True)
    )
    empty = Chain(nodes=[], back_edges=[], attempts=[], repeats=0, unparsed=0)
    counts: dict[tuple[str, str], Iterator[int]] = {}
    return [
        RlRollout(
            set=kind,
            step=step,
            problem_id=problem.id,
            number=next(counts.setdefault((problem.id, prefix), iter(range(len(texts))))),
            prefix=prefix,
            text=text,
            tokens=len(own),
            finished=finished(own),
            answer=answer,
            verdict=verdict,
            extraction=task.extraction(response),
            reward=value if (value := reward(verdict)) is not None and math.isfinite(value) else None,
            used=True,
            chain=chains.get(i, empty),
        )
        for i, (problem, prefix, text, response, own, (answer, verdict)) in enumerate(
            zip(problems, prefixes, texts, responses, ids, grades, strict=True)
        )
    ]

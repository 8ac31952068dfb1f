"""Improve the SFT model by GRPO on problems of moderate difficulty (paper section 3.2).

    python -m stages.grpo           # from models/sft, the ASTRO arm
    python -m stages.grpo direct    # from models/sft_direct, the comparator: same prompts, steps and limits

Deviations from the paper: 10. a larger group and learning rate by default (parameters); 11. TRL's current loss (dapo, no
KL term) instead of the original GRPO loss; `grpo.loss_type` has both; 14. no pass-rate filter by default, so that both arms
train on the same prompts.
"""

import shutil
from pathlib import Path

from pydantic import Field

from astro.cloning.template import load_phrases
from astro.domains import get_domain
from astro.domains.chat import chat_for
from astro.runtime import (
    Progress,
    UserError,
    atomic_path,
    clear_folder,
    read_jsonl,
    run_stage,
    work_folder,
    write_jsonl,
    write_text,
)
from schemas.base import Strict
from schemas.grpo import GrpoMetrics
from schemas.records import Problem
from stages.harness import CURVES, arm_name, stage

MODELS = {"grpo": Path("models/sft"), "grpo_direct": Path("models/sft_direct")}
PROBLEMS = Path("data/problems/rl.jsonl")
CODE = ["stages/grpo.py", "astro/training", "astro/engines", "astro/domains", "astro/verify", "astro/tokens.py"]


class PassRate(Strict):
    """How often the SFT model solves a problem."""

    problem_id: str
    correct: int = Field(ge=0)
    samples: int = Field(ge=1)


def measure(s, problems: list[Problem], path: Path) -> list[PassRate]:
    """Pass rates of `problems`, from `path` where an earlier, killed run has written them."""
    if path.exists():
        return list(read_jsonl(path, PassRate))
    from astro.engines.api import EngineError
    from astro.engines.running import run_task
    from astro.engines.searches import AskTask

    settings, chat = s.params.grpo, chat_for(s.params.run.prompt, MODELS[s.name])
    domain = get_domain(s.params.run.domain, chat=chat)
    samples = settings.pass_rate.samples
    task = AskTask(
        s.params.run.domain,
        s.params.run.seed,
        "pass rate",
        samples,
        settings.max_completion,
        settings.temperature,
        chat,
    )
    progress, answers = Progress(s.name, len(problems), unit="problems measured"), {}
    asked = run_task(
        task,
        problems,
        total=len(problems),
        engine=s.params.engine,
        model=MODELS[s.name],
        in_flight=max(1, s.params.engine.concurrency // samples),
        runner=settings.pass_rate.runner,
        ray=s.params.ray,
    )
    try:
        for identifier, drawn in asked:
            answers[identifier] = drawn
            progress.update(len(answers))
    except EngineError as error:
        raise UserError(str(error)) from None
    repeated = [p for p in problems for _ in range(samples)]
    grades = iter(domain.grade_many(repeated, [x.text for p in problems for x in answers[p.id]]))
    rates = [
        PassRate(
            problem_id=p.id,
            correct=sum(next(grades)[1] == "correct" for _ in range(samples)),
            samples=samples,
        )
        for p in problems
    ]
    write_jsonl(path, rates)
    return rates


def main() -> None:
    """Write models/<arm> and its curve."""
    name = arm_name("grpo")
    with stage(name, "run", "engine", "grpo") as s:
        settings = s.params.grpo
        problems = list(read_jsonl(PROBLEMS, Problem))[: settings.pass_rate.problems]
        if settings.steps == 0:
            keep_as_it_is(s)
            return
        low, high = settings.pass_rate.low, settings.pass_rate.high
        from astro.training.fit import require_fit

        with work_folder(
            name, s.work_key([PROBLEMS, MODELS[name], Path(s.params.linearize.phrase_file)], CODE)
        ) as work:
            require_fit(MODELS[name], s.params, name="params.yaml")
            # Bounds that let everything through need no measurement, and give both arms the same prompts.
            every = low <= 0 and high >= 1
            rates = [] if every else measure(s, problems, work / "pass_rates.jsonl")
            kept = {r.problem_id for r in rates if low <= r.correct / r.samples <= high}
            chosen = problems if every else [p for p in problems if p.id in kept]
            print(f"[{name}] {len(chosen)} of {len(problems)} problems have a pass rate in {low}..{high}", flush=True)
            curve, steps = train(s, chosen, work)
        first, last = (tail_mean_of(curve, share_first) for share_first in (True, False))
        s.finish(
            GrpoMetrics(
                prompts_measured=len(rates),
                prompts_kept=len(chosen),
                pass_rate=round(sum(r.correct for r in rates) / sum(r.samples for r in rates), 6) if rates else None,
                steps=steps,
                completions=steps * settings.prompts_per_step * settings.group_size,
                reward_first=first,
                reward_last=last,
            )
        )


def keep_as_it_is(s) -> None:
    """0 steps: the SFT model under the arm's name; an ablation of SFT alone costs no RL."""
    with atomic_path(Path("models") / s.name) as folder:
        shutil.copytree(MODELS[s.name], folder)
    write_text(CURVES / f"{s.name}.csv", "step,reward\n")
    print(f"[{s.name}] 0 steps: {MODELS[s.name]} as it is", flush=True)
    s.finish(
        GrpoMetrics(
            prompts_measured=0,
            prompts_kept=0,
            pass_rate=None,
            steps=0,
            completions=0,
            reward_first=None,
            reward_last=None,
        )
    )


def train(s, problems: list[Problem], work: Path) -> tuple[list[dict[str, float]], int]:
    """GRPO itself; publishes the model and its curve."""
    from astro.training.common import load_causal_lm, save_model, write_curve
    from astro.training.grpo import reinforce

    model, tokenizer = load_causal_lm(MODELS[s.name], name=str(MODELS[s.name]))
    phrases = load_phrases(Path(s.params.linearize.phrase_file))
    model, curve, steps = reinforce(
        model,
        tokenizer,
        problems,
        domain=get_domain(s.params.run.domain, phrases, chat_for(s.params.run.prompt, MODELS[s.name])),
        settings=s.params.grpo.model_dump(),
        seed=s.params.run.seed,
        work=work,
        log=s.log,
    )
    save_model(model, tokenizer, Path("models") / s.name)
    clear_folder(work)
    write_curve(CURVES / f"{s.name}.csv", curve)
    return curve, steps


def tail_mean_of(curve: list[dict[str, float]], first: bool) -> float:
    """Mean reward over the first or last tenth of the steps."""
    from astro.training.common import tail_mean

    return tail_mean(curve, "reward", 0.1, first=first)


if __name__ == "__main__":
    run_stage(main)

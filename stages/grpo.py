"""Improve the SFT model by GRPO on problems of moderate difficulty (paper section 3.2).

    python -m stages.grpo           # from models/sft, the ASTRO arm of arms.yaml
    python -m stages.grpo direct    # from models/sft_direct, the baseline: same prompts, steps and limits

Deviations from the paper: 10. the default group and learning rate are larger (parameters); 11. the loss is TRL's
current one (dapo, no KL term) instead of the original GRPO loss (`grpo.loss_type` offers both); 14. by default there is
no pass-rate filter, so that both arms train on the same prompts; 22. `grpo.restart` starts episodes in the middle of
SFT chains (Satori), off by default;
23. held-out problems choose the published checkpoint (`grpo.keep`), while the paper publishes the last one.
"""

import contextlib
import math
import shutil
from collections.abc import Callable
from pathlib import Path

from astro import tracking
from astro.compute_profile import identity, load_compute, split_batch
from astro.execution.job_runner import open_runner
from astro.execution.result_store import ResultStore
from astro.execution.search_and_sample_jobs import Answers, SampleJobs, sample_answers
from astro.files import atomic_path, digest_path, read_jsonl, write_jsonl, write_text
from astro.process import UserError, home_root, run_stage
from astro.tasks import get_task
from astro.tasks.chat import chat_for
from astro.training.curriculum import easy_first
from astro.training.launch import Log, launch, visible_gpus
from astro.training.mid_chain_starts import Episode, Restart, draw_restarts, restarts_beside
from schemas.compute_profile import Compute
from schemas.grpo import GrpoMetrics, RefillMetrics, ValidationMetrics, ValidationPoint
from schemas.records import Problem, Trace
from stages.harness import CURVES, Stage, arm_argument, stage

PROBLEMS = Path("data/problems/rl.jsonl")
TRACED = Path("data/problems/train.jsonl")
LOGGED = 400
"""Rollouts in the table of the stage's MLflow run."""
TRACED_ROLLOUTS = 3
"""Number of these rollouts, from the end, that are also logged as traces."""
EVAL_SETS = Path("data/problems/eval")


def sft_model(s: Stage) -> Path:
    """The SFT model of the arm, from which RL starts."""
    assert s.arm is not None, "grpo needs the name of an arm"
    return Path(f"models/sft{s.arm.suffix}")


def pass_rates(s: Stage, problems: list[Problem], path: Path) -> dict[str, float]:
    """Pass rate of the SFT model on each problem. Samples that a killed run has stored in `path` are reused."""
    settings, run = s.params.grpo, s.params.run
    jobs = SampleJobs(
        run.spec,
        run.seed,
        "pass rate",
        settings.pass_rate.samples,
        settings.max_completion_length,
        settings.temperature,
        chat_for(run.prompt, sft_model(s)),
        answers=run.answers,
    )
    with (
        contextlib.closing(ResultStore(path, Answers)) as store,
        open_runner(s.params.engine, s.params.execution, sft_model(s)) as runner,
    ):
        answers = sample_answers(
            jobs,
            problems,
            store=store,
            runner=runner,
            concurrency=s.params.execution.concurrency,
            label=s.name,
        )
    return {a.id: sum(x.verdict == "correct" for x in a.samples) / jobs.n for a in answers}


def rl_settings(s: Stage) -> dict:
    """params.grpo, plus the key "vllm": where, how and in which type of number vLLM generates."""
    vllm = s.params.execution.grpo_vllm.model_dump() | {"dtype": s.params.engine.vllm.dtype}
    return {**s.params.grpo.model_dump(), "vllm": vllm}


def restart_states(s: Stage, fresh: int, fits: Callable[[str], bool]) -> list[tuple[Problem, str]]:
    """(problem, prefix) of the restarted episodes that go with the `fresh` ones, which start at the problem.

    The baseline's chains contain no wrong step, so it restarts in the middle of correct chains, equally often. Both
    arms thus have the same share of episodes with a given beginning, and differ only in wrong steps and returns.
    """
    settings, source = s.params.grpo.restart, s.traces
    if not settings.fraction:
        return []
    assert s.arm is not None  # this stage always has an arm
    states = "any" if not s.arm.baseline else settings.states
    count = restarts_beside(fresh, settings.fraction)
    traces = list(read_jsonl(source, Trace))
    found: list[Restart] = draw_restarts(traces, count=count, states=states, seed=s.params.run.seed, fits=fits)
    if not found and count:
        raise UserError(
            f"grpo.restart.fraction {settings.fraction}: no chain of {source} has a restart state (states {states}) that "
            "leaves room for grpo.max_completion_length"
        )
    problems = {p.id: p for p in read_jsonl(TRACED, Problem)}
    if unknown := sorted({r.problem_id for r in found} - set(problems)):
        raise UserError(f"{source}: contains chains of problems that are not in {TRACED}, the first is {unknown[0]}")
    return [(problems[r.problem_id], r.prefix) for r in found]


def check_validation(s: Stage, problems: list[Problem], held_out: list[Problem], compute: Compute) -> None:
    """Check that no validation problem is used in training or eval."""
    from astro.training.rl_settings_checks import check_held_out

    settings = s.params.grpo
    if settings.keep == "best" and compute.strategy in ("fsdp2", "zero3"):
        raise UserError(
            f"grpo.keep best: the sharded checkpoints of strategy {compute.strategy} cannot be published; set "
            "grpo.keep to last (validation still runs)"
        )
    if not held_out:
        return
    others = {str(PROBLEMS) + " before them": problems, str(TRACED): list(read_jsonl(TRACED, Problem))}
    for path in sorted(EVAL_SETS.glob("*.jsonl")):
        others[str(path)] = list(read_jsonl(path, Problem))
    check_held_out(held_out, others, identity=get_task(s.params.run.spec).identity)


def check(
    s: Stage, problems: list[Problem], held_out: list[Problem], compute: Compute
) -> tuple[int, list[Problem], list[Problem], list[tuple[Problem, str]]]:
    """Check all settings before the long work.

    Returns:
        Tokens that vLLM must hold; `problems` and `held_out` without the few that are too long for the model; restart
        states for these problems.
    """
    from astro.training.grpo import BATCH
    from astro.training.lora import check_quantize
    from astro.training.model_checks import require_fit
    from astro.training.rl_settings_checks import check_generation, check_lengths, check_server, overlong, shape_of

    settings, model = s.params.grpo, sft_model(s)
    require_fit(model, s.params, name="params.yaml")
    split_batch(
        settings.prompts_per_step * settings.group_size,
        compute.micro_batch.grpo or settings.micro_batch,
        compute.world,
        BATCH,
    )
    if compute.world > 1 and not settings.seeded:
        print(
            f"[{s.name}] warning: grpo.seeded is false, so each of {compute.world} processes has its own random "
            "generator and the result depends on their number",
            flush=True,
        )
    if not problems:
        raise UserError(f"{PROBLEMS}: contains no problems")
    check_validation(s, problems, held_out, compute)
    encode, context = shape_of(model)
    values, vllm = rl_settings(s), s.params.execution.grpo_vllm
    gpus = visible_gpus(compute)
    check_quantize(settings.lora.quantize, compute, gpus, stage="grpo")
    check_generation(values, cuda=gpus > 0, processes=compute.world)
    limit = context if settings.generation == "hf" else vllm.max_model_len or context
    prompt = get_task(s.params.run.spec, chat=chat_for(s.params.run.prompt, model)).prompt
    lengths = [(p.id, len(encode(prompt(p)))) for p in [*problems, *held_out]]
    longer = overlong(lengths, max_completion_length=settings.max_completion_length, limit=min(limit, context))
    for identifier, tokens in longer.items():
        print(
            f"[{s.name}] problem {identifier} is left out: its prompt of {tokens} tokens is too long for the model",
            flush=True,
        )
    problems, held_out = ([p for p in some if p.id not in longer] for some in (problems, held_out))
    restarts = restart_states(
        s, len(problems), lambda text: len(encode(text)) + settings.max_completion_length <= min(limit, context)
    )
    begun = [(p.id, len(encode(prompt(p) + prefix))) for p, prefix in restarts]
    needed = check_lengths(
        [*(length for length in lengths if length[0] not in longer), *begun],
        max_completion_length=settings.max_completion_length,
        context=context,
        vllm_len=0 if settings.generation == "hf" else vllm.max_model_len,
    )
    if settings.generation == "vllm_server":
        check_server(values["vllm"]["server"], model=model, needed=needed, encode=encode)
    return needed, problems, held_out, restarts


def main() -> None:
    """Write models/<arm> and its training curve."""
    with stage("grpo", arm_argument("grpo")) as s:
        settings = s.params.grpo
        if settings.steps == 0:
            keep_as_it_is(s)
            return
        from astro.training.rl_settings_checks import split_rl

        problems, held_out = split_rl(
            list(read_jsonl(PROBLEMS, Problem)),
            held_out=settings.validation.problems,
            use=settings.pass_rate.problems,
            needed=settings.prompts_per_step,
        )
        compute = load_compute()
        low, high = settings.pass_rate.low, settings.pass_rate.high
        with s.work(*identity(compute)) as work:
            needed, problems, held_out, restarts = check(s, problems, held_out, compute)
            # Bounds that accept every pass rate need no measurement, and give both arms the same prompts.
            every = low <= 0 and high >= 1 and settings.curriculum == "none"
            rates = {} if every else pass_rates(s, problems, work / "pass_rates.sqlite")
            chosen = problems if every else [p for p in problems if low <= rates[p.id] <= high]
            print(
                f"[{s.name}] problems with a pass rate in {low}..{high}: {len(chosen)} of {len(problems)}", flush=True
            )
            restarts = restarts[: restarts_beside(len(chosen), settings.restart.fraction)]
            prompts = chosen
            if settings.curriculum == "easy_first" and len(chosen) >= settings.prompts_per_step:
                prompts = easy_first(
                    chosen,
                    rates,
                    batches=math.ceil(settings.steps / settings.num_iterations),
                    per_batch=settings.prompts_per_step,
                    seed=s.params.run.seed,
                )
            result = train(s, prompts, restarts, held_out, needed=needed, compute=compute, work=work)
            curve, steps = result["curve"], result["steps"]
        dropped = int(sum(row.get("groups_dropped", 0) for row in curve))
        first, last = (tail_mean_of(curve, share_first) for share_first in (True, False))
        s.finish(
            GrpoMetrics(
                prompts_measured=len(rates),
                prompts_kept=len(chosen),
                pass_rate=round(math.fsum(rates.values()) / len(rates), 6) if rates else None,
                steps=steps,
                completions=(math.ceil(steps / settings.num_iterations) * settings.prompts_per_step + dropped)
                * settings.group_size,
                restart_prompts=len(restarts),
                reward_first=first,
                reward_last=last,
                validation=ValidationMetrics(
                    problems=len(held_out),
                    points=[ValidationPoint.model_validate(point) for point in result["points"]],
                    published_step=result["published_step"],
                    stopped_early=steps < settings.steps,
                )
                if held_out
                else None,
                refills=RefillMetrics(
                    groups_dropped=dropped, tokens=int(sum(row.get("sampled_tokens", 0) for row in curve))
                )
                if settings.refills
                else None,
            )
        )


def keep_as_it_is(s: Stage) -> None:
    """For 0 steps, publish the SFT model under the arm's name, so that an ablation of SFT needs no RL."""
    with atomic_path(Path("models") / s.name) as folder:
        shutil.copytree(sft_model(s), folder)
    write_text(CURVES / f"{s.name}.csv", "step,reward\n")
    print(f"[{s.name}] 0 steps: {sft_model(s)} is published unchanged", flush=True)
    s.finish(
        GrpoMetrics(
            prompts_measured=0,
            prompts_kept=0,
            pass_rate=None,
            steps=0,
            completions=0,
            restart_prompts=0,
            reward_first=None,
            reward_last=None,
        )
    )


def train(
    s: Stage,
    problems: list[Problem],
    restarts: list[tuple[Problem, str]],
    held_out: list[Problem],
    *,
    needed: int,
    compute: Compute,
    work: Path,
) -> dict:
    """Run GRPO in as many processes as the compute profile says; publish the model, its curve and its rollouts.

    Returns:
        The result of astro.training.grpo_job.train_job.
    """
    from astro.training import rollout_store
    from astro.training.common import write_curve
    from astro.training.grpo_job import HELD_OUT, publish

    write_jsonl(work / HELD_OUT, held_out)
    begun = [*((p, "") for p in problems), *restarts]
    write_jsonl(work / "episodes.jsonl", (Episode(problem=p, prefix=prefix) for p, prefix in begun))
    given = {
        "name": s.name,
        "model": str(sft_model(s)),
        "target": str(Path("models") / s.name),
        "task": s.params.run.spec,
        "prompt": s.params.run.prompt,
        "answers": s.params.run.answers,
        "phrases": s.params.linearize.phrase_file,
        "seed": s.params.run.seed,
        "settings": rl_settings(s),
        "needed": needed,
        "rollouts_mb": s.params.execution.rollouts_mb,
        "work": str(work),
    }
    result = launch(job, given, compute=compute, work=work, log=s.log)
    if result["trained"]:
        publish(given, Path(result["trained"]))
    curve = CURVES / f"{s.name}.csv"
    write_curve(curve, result["curve"])
    seen = {p.id: p for p in [*problems, *(p for p, _ in restarts), *held_out]}
    kept = rollout_store.home_of(home_root(), s.name, digest_path(curve))
    rollout_store.publish(work, kept, list(seen.values()))
    rows = rollout_store.sample(kept, LOGGED)
    tracking.log_rollouts(home_root(), rows, seen, run_id=s.tracker.run_id, traces=rows[-1 : -TRACED_ROLLOUTS - 1 : -1])
    return result


def job(given: dict, compute: Compute, log: Log) -> dict:
    """The training, in this process or in each process that `launch` starts."""
    from astro.training.grpo_job import train_job

    return train_job(given, compute, log)


def tail_mean_of(curve: list[dict[str, float]], first: bool) -> float | None:
    """Mean reward over the first or last tenth of the steps; None: no step has one, because no reference could be read."""
    from astro.training.common import tail_mean

    if not any("reward" in row for row in curve):
        return None
    return tail_mean(curve, "reward", 0.1, first=first)


if __name__ == "__main__":
    run_stage(main)

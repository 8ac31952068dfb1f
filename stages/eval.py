"""Measure the base model and both arms after SFT and after RL on every eval set (paper section 4).

    python -m stages.eval

Deviations from the paper: 12. every figure has a 95 % interval, and differences are paired on problems; the paper gives
neither.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel

from astro.arms import BASE, RAW, all_models, baselines, by_arm
from astro.cloning.verbalize import load_phrases
from astro.dvc_files import hash_of
from astro.evaluation.accuracy import pass_at_1
from astro.evaluation.compute_matched import at_equal_tokens, budget_curves
from astro.evaluation.intervals import bootstrap_mean
from astro.evaluation.summary import comparisons, summarise
from astro.evaluation.token_limit import LongChain, limit_curve, limits
from astro.execution.job_runner import Runner, open_runners, run_jobs
from astro.execution.measurement_cache import prune, shared_store
from astro.execution.metered_search import MeteredSearchJobs, Searched
from astro.execution.result_store import ResultStore
from astro.execution.search_and_sample_jobs import (
    Addition,
    Additions,
    Answers,
    ContinueJobs,
    SampleJobs,
    Unfinished,
    sample_answers,
)
from astro.files import atomic_path, digest, read_jsonl, write_jsonl
from astro.process import UserError, home_root, run_stage
from astro.special_tokens import cut_text, encode_prompt, load_tokenizer
from astro.tasks import Task, get_task
from astro.tasks.chat import chat_for
from schemas.evaluate import Estimate, EvalMetrics, LimitCurve
from schemas.mcts import MctsParams
from schemas.records import Completion, Problem, Verdict
from schemas.run import READINGS, Reading
from stages.harness import Stage, stage, tell_unanswered

OUT = Path("data/completions")
EVAL_SETS = Path("data/problems/eval")
MODELS = Path("models")

R = TypeVar("R", bound=BaseModel)


@contextlib.contextmanager
def measured(s: Stage, what: dict[str, Any], name: str, record: type[R]) -> Iterator[ResultStore[R]]:
    """The cached measurements of a model under the current settings (`astro.execution.measurement_cache`)."""
    key = digest(
        what,
        s.params.run.model_dump(),
        s.params.engine.model_dump(),
        [hash_of(str(p)) for p in (EVAL_SETS, MODELS / name, s.params.linearize.phrase_file)],
        s.state.code,
    )
    with shared_store("eval", key, record) as store:
        yield store


def samples_of(s: Stage, name: str) -> int:
    """Completions per problem of a model."""
    params = s.params.eval
    return params.of_baselines if name in (BASE, *baselines().values()) else params.samples


def asked_of(s: Stage, name: str) -> dict[str, Any]:
    """What determines the completions of a model, besides the model."""
    return {"samples": samples_of(s, name), **s.params.eval.model_dump(include={"temperature", "max_tokens"})}


def complete(
    s: Stage, name: str, sets: dict[str, list[Problem]], runner_of: Callable[[Path], Runner]
) -> list[Completion]:
    """All completions of one model. Models with equal bytes (e.g. after a training of 0 steps) are measured only once, if they
    get equally many samples.
    """
    params, run = s.params.eval, s.params.run
    jobs = SampleJobs(
        run.spec,
        run.seed,
        "eval",
        samples_of(s, name),
        params.max_tokens,
        params.temperature,
        chat_for(run.prompt, MODELS / name),
        load_phrases(Path(s.params.linearize.phrase_file)),
        chains=True,
        answers=run.answers,
    )
    asked = [(set_name, p) for set_name, members in sets.items() for p in members]
    with measured(s, asked_of(s, name), name, Answers) as store:
        answers = sample_answers(
            jobs,
            [p for _, p in asked],
            store=store,
            runner=runner_of(MODELS / name),
            concurrency=s.params.execution.concurrency,
            label=f"eval {name}",
        )
    pairs = zip(asked, answers, strict=True)
    tell_unanswered(
        f"eval {name}", [p.id for (_, p), found in pairs if not any(a.tokens or a.finished for a in found.samples)]
    )
    return [
        Completion(model=name, set=set_name, problem_id=p.id, sample=number, **dict(sample))
        for (set_name, p), found in zip(asked, answers, strict=True)
        for number, sample in enumerate(found.samples)
    ]


def measured_models() -> list[str]:
    """All models to measure, including the base before its warm-up if there was one."""
    warmed = (MODELS / RAW / "config.json").is_file()
    return [name for name in all_models() if name != RAW or warmed]


def long_chains(
    s: Stage,
    name: str,
    sets: dict[str, list[Problem]],
    completions: list[Completion],
    runner_of: Callable[[Path], Runner],
) -> list[LongChain]:
    """The completions of one model, where those cut by `eval.max_tokens` are continued up to `eval.long_tokens`.

    The completions themselves stay unchanged. Only their continuations are sampled, once for all points of the curve.
    """
    params, run = s.params.eval, s.params.run
    problems = {p.id: p for members in sets.values() for p in members}
    require_room(s, name, list(problems.values()))
    cut: dict[str, dict[str, str]] = {}
    for c in completions:
        if not c.finished and params.longest > params.max_tokens:
            cut.setdefault(c.problem_id, {})[str(c.sample)] = c.text
    found: dict[tuple[str, int], Addition] = {}
    if cut:
        items = [Unfinished(problem=problems[i], samples=samples) for i, samples in cut.items()]
        more = params.longest - params.max_tokens
        chat = chat_for(run.prompt, MODELS / name)
        jobs = ContinueJobs(run.spec, run.seed, "eval long", more, params.temperature, chat)
        asked = {"long": params.longest, **asked_of(s, name)}
        with measured(s, asked, name, Additions) as store:
            run_jobs(
                jobs,
                lambda: items,
                store=store,
                runner=runner_of(MODELS / name),
                in_flight=max(1, s.params.execution.concurrency // params.samples),
                label=f"eval {name}, longer",
                unit="problems",
            )
            found = {(i, int(number)): a for i in cut for number, a in store[i].samples.items()}
    nothing = Addition(text="", tokens=0, finished=False)
    return [
        LongChain(c, c.text + more.text, c.tokens + more.tokens, c.finished or more.finished)
        for c in completions
        for more in (found.get((c.problem_id, c.sample), nothing),)
    ]


def require_room(s: Stage, name: str, problems: list[Problem]) -> None:
    """Check that the longest prompt fits in the engine together with `eval.long_tokens`. A chain cut earlier would be no data.

    Raises:
        UserError: it does not fit.
    """
    engine, wanted = s.params.engine, s.params.eval.longest
    if engine.kind == "endpoint" or wanted <= s.params.eval.max_tokens:
        return
    task = get_task(s.params.run.spec, chat=chat_for(s.params.run.prompt, MODELS / name))
    tokenizer = load_tokenizer(MODELS / name)
    longest, identifier = max((len(encode_prompt(tokenizer, task.prompt(p))), p.id) for p in problems)
    if longest + wanted > engine.max_model_len:
        raise UserError(
            f"eval.long_tokens {wanted}: with the longest prompt ({identifier}, {longest} tokens) that is "
            f"{longest + wanted}, but engine.max_model_len is {engine.max_model_len}; raise it (up to the model's "
            "context), or lower eval.long_tokens"
        )


def limit_curves(s: Stage, chains: dict[str, list[LongChain]], members: list[Problem]) -> list[LimitCurve]:
    """Accuracy against the token limit on one eval set, one curve per model."""
    params, run = s.params.eval, s.params.run
    problems = {p.id: p for p in members}
    found = []
    for name, all_chains in chains.items():
        tokenizer = load_tokenizer(MODELS / name)
        task = get_task(
            run.spec,
            load_phrases(Path(s.params.linearize.phrase_file)),
            chat_for(run.prompt, MODELS / name),
            run.answers,  # the same as for the whole chains
        )

        def grade(texts: Sequence[tuple[str, str]], task: Task = task) -> list[Verdict]:
            return [verdict for _, verdict in task.grade_many([problems[i] for i, _ in texts], [t for _, t in texts])]

        found.append(
            limit_curve(
                [c for c in all_chains if c.completion.problem_id in problems],
                name,
                limits(params.longest, params.max_tokens),
                cut=partial(cut_text, tokenizer),
                grade=grade,
                resamples=params.bootstrap_resamples,
                seed=run.seed,
            )
        )
    return found


def search_settings(s: Stage) -> MctsParams:
    """params.mcts without the settings that do not affect test-time search. The method is always mcts, whatever made the
    traces."""
    return s.params.mcts.model_copy(update={"method": "mcts", "samples": 1, "problems": 1, "shards": 1})


def search_at_test_time(
    s: Stage, sets: dict[str, list[Problem]], runner_of: Callable[[Path], Runner]
) -> list[Searched]:
    """MCTS with the base model on the first `eval.mcts_problems` problems of each set, as a reference for the search prior; [] if
    the number is 0.
    """
    problems = [p for members in sets.values() for p in members[: s.params.eval.mcts_problems]]
    if not problems:
        return []
    settings, run = search_settings(s), s.params.run
    chat = chat_for(run.prompt, MODELS / BASE)
    jobs = MeteredSearchJobs(settings, run.spec, run.seed, chat, answers=run.answers)
    asked = {"search": s.params.eval.mcts_problems, **settings.model_dump(exclude={"gate"})}
    with measured(s, asked, BASE, Searched) as store:
        run_jobs(
            jobs,
            lambda: problems,
            store=store,
            runner=runner_of(MODELS / BASE),
            in_flight=s.params.execution.trees_in_flight,
            label="eval search",
            unit="trees",
        )
        return [store[p.id] for p in problems]


def base_by_reading(
    s: Stage, completions: list[Completion], sets: dict[str, list[Problem]]
) -> dict[str, dict[Reading, Estimate]]:
    """pass@1 of the base model on each set under every way of reading answers, to show the effect of form; {}: only one way
    exists."""
    if not get_task(s.params.run.spec).readings:
        return {}
    found: dict[str, dict[Reading, Estimate]] = {name: {} for name in sets}
    for reading in READINGS:
        task = get_task(s.params.run.spec, answers=reading)
        for name, members in sets.items():
            problems, done = {p.id: p for p in members}, [c for c in completions if c.set == name]
            grades = task.grade_many([problems[c.problem_id] for c in done], [c.text for c in done])
            again = [c.model_copy(update={"verdict": verdict}) for c, (_, verdict) in zip(done, grades, strict=True)]
            found[name][reading] = bootstrap_mean(
                list(pass_at_1(again).values()),
                resamples=s.params.eval.bootstrap_resamples,
                rng=np.random.default_rng(s.params.run.seed),
            )
    return found


def curves_of(s: Stage, sampled: dict[str, list[Completion]], searched: list[Searched], members: list[Problem]) -> list:
    """The equal-token curves of one eval set."""
    ids = {p.id for p in members}
    here = [x for x in searched if x.tree.problem.id in ids]
    return budget_curves(
        {name: [c for c in completions if c.problem_id in ids] for name, completions in sampled.items()},
        [x.tree for x in here],
        baselines=baselines(),
        found={x.tree.problem.id: x.found for x in here},
        resamples=s.params.eval.bootstrap_resamples,
        seed=s.params.run.seed,
    )


def main() -> None:
    """Write data/completions/<model>.jsonl and metrics/eval.json. Measurements of earlier or killed runs are reused."""
    with stage("eval") as s:
        files = sorted(EVAL_SETS.glob("*.jsonl"))
        if not files:
            raise UserError(f"{EVAL_SETS}: contains no eval set")
        sets = {f.stem: list(read_jsonl(f, Problem)) for f in files}
        sampled: dict[str, list[Completion]] = {}
        records: dict[str, list[Completion]] = {}  # the first eval.samples of them
        chains: dict[str, list[LongChain]] = {}
        with open_runners(s.params.engine, s.params.execution) as runner_of:
            searched = search_at_test_time(s, sets, runner_of)
            for name in measured_models():
                sampled[name] = complete(s, name, sets, runner_of)
                records[name] = [c for c in sampled[name] if c.sample < s.params.eval.samples]
                if s.params.eval.longest:
                    chains[name] = long_chains(s, name, sets, records[name], runner_of)
        with atomic_path(OUT) as folder:
            for name, completions in records.items():
                write_jsonl(folder / f"{name}.jsonl", completions)
        prune("eval", home_root())
        pairs = [*comparisons(by_arm(), baselines()), (BASE, RAW)]  # the last pair shows the effect of the warm-up
        summaries = {
            set_name: summarise(
                {name: [c for c in completions if c.set == set_name] for name, completions in records.items()},
                pairs=pairs,
                majority=s.params.eval.majority,
                resamples=s.params.eval.bootstrap_resamples,
                seed=s.params.run.seed,
            )
            for set_name in sets
        }
        budgets = {name: curves_of(s, sampled, searched, members) for name, members in sets.items()}
        s.finish(
            EvalMetrics(
                samples=s.params.eval.samples,
                seed=s.params.run.seed,
                sets={name: models for name, (models, _) in summaries.items()},
                differences={name: differences for name, (_, differences) in summaries.items()},
                budgets=budgets,
                token_limits={name: limit_curves(s, chains, members) for name, members in sets.items()}
                if chains
                else {},
                equal_tokens={name: at_equal_tokens(curves, baselines()) for name, curves in budgets.items()},
                base_by_reading=base_by_reading(s, records[BASE], sets),
            )
        )


if __name__ == "__main__":
    run_stage(main)

"""Measure the base model and both arms after SFT and after RL on every eval set (paper section 4).

    python -m stages.eval

Deviations from the paper: 12. every figure has a 95 % interval and differences are paired on problems; the paper gives none.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from astro.arms import BASE, all_models, baselines, by_arm
from astro.cloning.template import load_phrases
from astro.domains import get_domain
from astro.domains.chat import chat_for
from astro.engines.api import EngineError
from astro.engines.metered import MeteredSearchTask
from astro.engines.running import run_task
from astro.engines.searches import AskTask
from astro.evaluation.budget import at_equal_tokens, budget_curves
from astro.evaluation.kept import measured, prune
from astro.evaluation.summary import comparisons, summarise
from astro.pipeline import hash_of
from astro.runtime import (
    Progress,
    UserError,
    atomic_path,
    digest,
    home_root,
    read_jsonl,
    run_stage,
    write_jsonl,
)
from schemas.base import Strict
from schemas.evaluate import EvalMetrics
from schemas.records import Completion, Problem, Tree
from stages.harness import Stage, stage

OUT = Path("data/completions")
EVAL_SETS = Path("data/problems/eval")
MODELS = Path("models")
ASKED = ("samples", "temperature", "max_tokens")
"""Of params.eval, what decides on a completion."""


def run(s: Stage, task, problems: list[Problem], model: Path, in_flight: int) -> Iterator[tuple[str, object]]:
    """(problem id, result), on this machine or on a cluster."""
    return run_task(
        task,
        problems,
        total=len(problems),
        engine=s.params.engine,
        execution=s.params.execution,
        model=model,
        in_flight=in_flight,
    )


def complete(s: Stage, name: str, sets: dict[str, list[Problem]]) -> list[Completion]:
    """All completions of one model."""
    params = s.params.eval
    chat = chat_for(s.params.run.prompt, MODELS / name)
    domain = get_domain(s.params.run.domain, load_phrases(Path(s.params.linearize.phrase_file)), chat)
    asked = [(set_name, p) for set_name, problems in sets.items() for p in problems]
    task = AskTask(
        s.params.run.domain, s.params.run.seed, "eval", params.samples, params.max_tokens, params.temperature, chat
    )
    progress, answers = Progress(f"eval {name}", len(asked), unit="problems"), {}
    in_flight = max(1, s.params.execution.concurrency // params.samples)
    for identifier, samples in run(s, task, [p for _, p in asked], MODELS / name, in_flight):
        answers[identifier] = samples
        progress.update(len(answers))
    drawn = [(set_name, p, number, sample) for set_name, p in asked for number, sample in enumerate(answers[p.id])]
    problems, texts = [p for _, p, _, _ in drawn], [sample.text for *_, sample in drawn]
    graded = zip(drawn, domain.grade_many(problems, texts), domain.parse_many(problems, texts), strict=True)
    return [
        Completion(
            model=name,
            set=set_name,
            problem_id=problem.id,
            sample=number,
            text=sample.text,
            tokens=sample.tokens,
            finished=sample.finished,
            answer=answer,
            verdict=verdict,
            chain=chain,
        )
        for (set_name, problem, number, sample), (answer, verdict), chain in graded
    ]


class Searched(Strict):
    """The tree that the base model made of an eval problem at test time."""

    tree: Tree
    found: int | None  # tokens generated when the first correct solution was there; None: never


def search_settings(s: Stage):
    """params.mcts without what does not reach a search at test time; always a tree search, whatever made the traces."""
    return s.params.mcts.model_copy(update={"method": "mcts", "samples": 1, "problems": 1, "shards": 1})


def search_at_test_time(s: Stage, sets: dict[str, list[Problem]]) -> list[Searched]:
    """MCTS with the base model on the first `eval.search` problems of each set: what the search prior competes with."""
    problems = [p for members in sets.values() for p in members[: s.params.eval.search]]
    chat = chat_for(s.params.run.prompt, MODELS / BASE)
    task = MeteredSearchTask(search_settings(s), s.params.run.domain, s.params.run.seed, chat)
    progress, found = Progress("eval search", len(problems), unit="trees"), {}
    for identifier, result in run(s, task, problems, MODELS / BASE, s.params.execution.trees_in_flight):
        found[identifier] = result
        progress.update(len(found))
    return [Searched(tree=found[p.id][0], found=found[p.id][1]) for p in problems]


def recall(s: Stage, what: dict, model: str, contract, make) -> list:
    """Records about `model` that hang on `what`; made where no run has made them yet (`astro.evaluation.kept`)."""
    key = digest(
        what,
        s.params.run.model_dump(),
        s.params.engine.model_dump(),
        [hash_of(str(p)) for p in (EVAL_SETS, MODELS / model, s.params.linearize.phrase_file)],
        s.state.code,
    )
    try:
        return measured("eval", key, contract, make)
    except EngineError as error:
        raise UserError(f"{error}; what is measured so far is kept") from None


def all_completions(s: Stage, sets: dict[str, list[Problem]]) -> dict[str, list[Completion]]:
    """Model -> its completions. Models of equal bytes (a training of 0 steps) are measured once."""
    asked = s.params.eval.model_dump(include=set(ASKED))
    records = {}
    for name in all_models():
        found = recall(s, asked, name, Completion, partial(complete, s, name, sets))
        records[name] = [c if c.model == name else c.model_copy(update={"model": name}) for c in found]
    return records


def all_searched(s: Stage, sets: dict[str, list[Problem]]) -> list[Searched]:
    """The searches at test time; [] where none are wanted."""
    if not s.params.eval.search:
        return []
    what = {"search": s.params.eval.search, **search_settings(s).model_dump()}
    return recall(s, what, "base", Searched, partial(search_at_test_time, s, sets))


def curves_of(s: Stage, records: dict[str, list[Completion]], searched: list[Searched], members: list[Problem]) -> list:
    """The equal-token curves of one eval set."""
    ids = {p.id for p in members}
    here = [x for x in searched if x.tree.problem.id in ids]
    return budget_curves(
        {name: [c for c in completions if c.problem_id in ids] for name, completions in records.items()},
        [x.tree for x in here],
        baselines=baselines(),
        found={x.tree.problem.id: x.found for x in here},
        resamples=s.params.eval.bootstrap,
        seed=s.params.run.seed,
    )


def main() -> None:
    """Write data/completions/<model>.jsonl and metrics/eval.json. What an earlier or killed run measured is not again."""
    with stage("eval") as s:
        files = sorted(EVAL_SETS.glob("*.jsonl"))
        if not files:
            raise UserError(f"{EVAL_SETS}: holds no eval set")
        sets = {f.stem: list(read_jsonl(f, Problem)) for f in files}
        records, searched = all_completions(s, sets), all_searched(s, sets)
        with atomic_path(OUT) as folder:
            for name, completions in records.items():
                write_jsonl(folder / f"{name}.jsonl", completions)
        prune("eval", home_root())
        pairs = comparisons(by_arm(), baselines())
        summaries = {
            set_name: summarise(
                {name: [c for c in completions if c.set == set_name] for name, completions in records.items()},
                pairs=pairs,
                majority=s.params.eval.majority,
                resamples=s.params.eval.bootstrap,
                seed=s.params.run.seed,
            )
            for set_name in sets
        }
        budgets = {name: curves_of(s, records, searched, members) for name, members in sets.items()}
        s.finish(
            EvalMetrics(
                samples=s.params.eval.samples,
                seed=s.params.run.seed,
                sets={name: models for name, (models, _) in summaries.items()},
                differences={name: differences for name, (_, differences) in summaries.items()},
                budgets=budgets,
                equal_tokens={name: at_equal_tokens(curves, baselines()) for name, curves in budgets.items()},
            )
        )


if __name__ == "__main__":
    run_stage(main)

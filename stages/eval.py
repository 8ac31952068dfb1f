"""Measure the base model and both arms after SFT and after RL on every eval set (paper section 4).

    python -m stages.eval

Deviations from the paper: 12. every figure has a 95 % interval and differences are paired on problems; the paper gives none.
"""

from functools import partial
from pathlib import Path

from astro.domains import get_domain
from astro.engines.api import EngineError, Request
from astro.engines.feed import generate, run_searches
from astro.engines.opening import open_engine
from astro.engines.searches import searches_of
from astro.evaluation.budget import Ledger, at_equal_tokens, budget_curves, first_found, metered
from astro.evaluation.kept import measured, prune
from astro.evaluation.summary import summarise
from astro.runtime import (
    Progress,
    UserError,
    atomic_path,
    digest,
    digest_path,
    home_root,
    read_jsonl,
    run_stage,
    write_jsonl,
)
from astro.search.seeds import node_seed
from schemas.base import Strict
from schemas.evaluate import EvalMetrics
from schemas.records import Completion, Problem, Tree
from stages.harness import stage

OUT = Path("data/completions")
EVAL_SETS = Path("data/problems/eval")
MODELS = {name: Path("models") / name for name in ("base", "sft_direct", "sft", "grpo_direct", "grpo")}
CODE = ["stages/eval.py", "astro/engines", "astro/domains", "astro/search"]
ASKED = ("samples", "temperature", "max_tokens")
"""Of params.eval, what decides on a completion."""


def complete(s, name: str, sets: dict[str, list[Problem]]) -> list[Completion]:
    """All completions of one model."""
    params, domain = s.params.eval, get_domain(s.params.run.domain)
    asked = [(set_name, p) for set_name, problems in sets.items() for p in problems]
    requests = [
        Request(
            prompt=domain.prompt(p),
            n=params.samples,
            max_tokens=params.max_tokens,
            temperature=params.temperature,
            stop=(),
            seed=node_seed(s.params.run.seed, p.id, ["eval"], "rollout"),
            logprobs=False,
        )
        for _, p in asked
    ]
    engine = open_engine(s.params.engine, MODELS[name])
    progress = Progress(f"eval {name}", len(requests), unit="problems")
    try:
        answers = generate(requests, engine=engine, concurrency=s.params.engine.concurrency, progress=progress.update)
    finally:
        engine.close()
    records = []
    for (set_name, problem), samples in zip(asked, answers, strict=True):
        for number, sample in enumerate(samples):
            answer = domain.extract(sample.text)
            records.append(
                Completion(
                    model=name,
                    set=set_name,
                    problem_id=problem.id,
                    sample=number,
                    text=sample.text,
                    tokens=sample.tokens,
                    finished=sample.finished,
                    answer=answer,
                    verdict=domain.grade(problem, answer),
                    chain=domain.parse_chain(problem, sample.text),
                )
            )
    return records


class Searched(Strict):
    """The tree that the base model made of an eval problem at test time."""

    tree: Tree
    found: int | None  # tokens generated when the first correct solution was there; None: never


def search_settings(s):
    """params.mcts without what does not reach a search at test time; always a tree search, whatever made the traces."""
    return s.params.mcts.model_copy(update={"method": "mcts", "samples": 1, "problems": 1, "shards": 1})


def search_at_test_time(s, sets: dict[str, list[Problem]]) -> list[Searched]:
    """MCTS with the base model on the first `eval.search` problems of each set: what the search prior competes with."""
    problems = [p for members in sets.values() for p in members[: s.params.eval.search]]
    searches, to_request = searches_of(
        problems, settings=search_settings(s), domain=get_domain(s.params.run.domain), seed=s.params.run.seed
    )
    ledgers = {p.id: Ledger() for p in problems}
    counted = ((identifier, metered(run, ledgers[identifier])) for identifier, run in searches)
    engine = open_engine(s.params.engine, MODELS["base"])
    progress, trees = Progress("eval search", len(problems), unit="trees"), {}
    try:
        grown = run_searches(counted, engine=engine, to_request=to_request, in_flight=s.params.mcts.trees_in_flight)
        for identifier, tree in grown:
            trees[identifier] = tree
            progress.update(len(trees))
    finally:
        engine.close()
    return [Searched(tree=trees[p.id], found=first_found(trees[p.id], ledgers[p.id])) for p in problems]


def recall(s, what: dict, model: str, contract, make) -> list:
    """Records about `model` that hang on `what`; made where no run has made them yet (`astro.evaluation.kept`)."""
    key = digest(
        what,
        s.params.run.model_dump(),
        s.params.engine.model_dump(exclude={"processes", "concurrency"}),  # a sample depends on its request alone
        [digest_path(p) for p in (EVAL_SETS, MODELS[model])],
        [digest_path(Path(c)) for c in CODE],
    )
    try:
        return measured("eval", key, contract, make)
    except EngineError as error:
        raise UserError(f"{error}; what is measured so far is kept") from None


def all_completions(s, sets: dict[str, list[Problem]]) -> dict[str, list[Completion]]:
    """Model -> its completions. Models of equal bytes (a training of 0 steps) are measured once."""
    asked = s.params.eval.model_dump(include=set(ASKED))
    records = {}
    for name in MODELS:
        found = recall(s, asked, name, Completion, partial(complete, s, name, sets))
        records[name] = [c if c.model == name else c.model_copy(update={"model": name}) for c in found]
    return records


def all_searched(s, sets: dict[str, list[Problem]]) -> list[Searched]:
    """The searches at test time; [] where none are wanted."""
    if not s.params.eval.search:
        return []
    what = {"search": s.params.eval.search, **search_settings(s).model_dump()}
    return recall(s, what, "base", Searched, partial(search_at_test_time, s, sets))


def curves_of(s, records: dict[str, list[Completion]], searched: list[Searched], members: list[Problem]) -> list:
    """The equal-token curves of one eval set."""
    ids = {p.id for p in members}
    here = [x for x in searched if x.tree.problem.id in ids]
    return budget_curves(
        {name: [c for c in completions if c.problem_id in ids] for name, completions in records.items()},
        [x.tree for x in here],
        found={x.tree.problem.id: x.found for x in here},
        resamples=s.params.eval.bootstrap,
        seed=s.params.run.seed,
    )


def main() -> None:
    """Write data/completions/<model>.jsonl and metrics/eval.json. What an earlier or killed run measured is not again."""
    with stage("eval", "run", "engine", "eval", "mcts") as s:
        files = sorted(EVAL_SETS.glob("*.jsonl"))
        if not files:
            raise UserError(f"{EVAL_SETS}: holds no eval set")
        sets = {f.stem: list(read_jsonl(f, Problem)) for f in files}
        records, searched = all_completions(s, sets), all_searched(s, sets)
        with atomic_path(OUT) as folder:
            for name, completions in records.items():
                write_jsonl(folder / f"{name}.jsonl", completions)
        prune("eval", home_root())
        summaries = {
            set_name: summarise(
                {name: [c for c in completions if c.set == set_name] for name, completions in records.items()},
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
                equal_tokens={name: at_equal_tokens(curves) for name, curves in budgets.items()},
            )
        )


if __name__ == "__main__":
    run_stage(main)

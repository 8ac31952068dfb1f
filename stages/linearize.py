"""Trees -> chains of thought (paper sections 2.3 and 2.4).

    python -m stages.linearize

Two training sets come of the same trees and the same draws: the chains that `linearize.*` asks for, and direct solutions,
as many, for the comparator.

Deviations from the paper: 6. phrases come from a file, not from an instruct LM that rewrites; 7. a return restates the
problem and the steps that stand, so that a tiny model composes its answer from nearby text; 8. the self-evaluation is one
vote word asked for after the solution's own check, not a prompt to an instruct model; 13. false solutions are left out, and
wrong answers differ in value; 17. a chain may go back at a dead end (`linearize.back_from`).
"""

from functools import partial
from pathlib import Path

from astro.cloning.judge import passing
from astro.cloning.template import load_phrases
from astro.cloning.traces import linearize, traces_of
from astro.cloning.walk import correct_terminals, lowest_value, wrong_terminals
from astro.domains import Domain, get_domain
from astro.domains.chat import chat_for
from astro.gates import check_traces, require
from astro.runtime import Progress, UserError, read_shards, run_stage, write_jsonl
from schemas.linearize import LinearizeMetrics
from schemas.records import Problem, Trace, Tree
from stages.harness import METRICS, REPORTS, stage

OUT = Path("data/traces/train.jsonl")
DIRECT = Path("data/traces/direct.jsonl")
TREES = Path("data/trees")
MODEL = Path("models/base")
EVAL_SETS = Path("data/problems/eval")


def domain_of(s) -> Domain:
    """The domain, with the base model's chat template where `run.prompt` asks for one."""
    return get_domain(s.params.run.domain, chat=chat_for(s.params.run.prompt, MODEL))


def vote(s, trees: list[Tree]) -> dict[tuple[str, int], list[str]]:
    """The base model's votes on every correct terminal: (problem id, node) -> votes."""
    from astro.engines.api import EngineError, Request
    from astro.engines.feed import generate
    from astro.engines.opening import open_engine
    from astro.search.seeds import node_seed

    domain, votes = domain_of(s), s.params.linearize.self_eval.votes
    asked = [(tree, node) for tree in trees for node in correct_terminals(tree)]
    requests = [
        Request(
            prompt=domain.vote_prompt(tree.problem, tree.steps(node))[0],
            n=votes,
            max_tokens=1,
            temperature=1.0,
            stop=(),
            seed=node_seed(s.params.run.seed, tree.problem.id, ["vote", *tree.steps(node)], "rollout"),
            logprobs=False,
        )
        for tree, node in asked
    ]
    try:
        engine = open_engine(s.params.engine, MODEL)
        progress = Progress("linearize", len(requests), unit="votes")
        answers = generate(requests, engine=engine, concurrency=s.params.engine.concurrency, progress=progress.update)
        engine.close()
    except EngineError as error:
        raise UserError(str(error)) from None
    return {
        (tree.problem.id, node): [sample.text for sample in samples]
        for (tree, node), samples in zip(asked, answers, strict=True)
    }


def make_filter(s, trees: list[Tree]):
    """`accept(tree, correct terminals)` of the chosen filter."""
    params, domain = s.params.linearize, domain_of(s)
    if params.filter == "value":
        return lambda tree, correct: [i for i in correct if lowest_value(tree, i) >= params.min_value]
    if params.filter == "self_eval":
        ballots = vote(s, trees)
        return lambda tree, correct: passing(
            correct,
            ask=lambda nodes: [ballots[tree.problem.id, node] for node in nodes],
            sound=lambda node: domain.vote_prompt(tree.problem, tree.steps(node))[1],
            min_share=params.self_eval.min_share,
        )
    return lambda tree, correct: correct


def make_check(s):
    """`usable(tree, terminal node)`: whether the domain's checker passes the solution (always, without `checked`)."""
    domain = get_domain(s.params.run.domain)
    if not s.params.linearize.checked:
        return lambda tree, node: True
    return lambda tree, node: domain.checked(tree.problem, tree.steps(node))


def main() -> None:
    """Write data/traces/train.jsonl and direct.jsonl."""
    with stage("linearize", "run", "engine", "linearize") as s:
        params, domain = s.params.linearize, domain_of(s)
        trees = list(read_shards(TREES, Tree))
        phrases = load_phrases(Path(params.phrase_file))
        make = partial(
            traces_of,
            count=params.traces_per_tree,
            max_backtracks=params.max_backtracks,
            direct_share=params.direct_share,
            phrases=phrases if params.phrases else None,
            jump=params.jump,
            back_from=params.back_from,
            order=params.order,
            seed=s.params.run.seed,
            prompt=domain.prompt,
            step_end=domain.step_end,
            abandoned=domain.abandoned,
            restate=domain.restate,
        )
        usable, passed = make_check(s), make_filter(s, trees)

        def accept(tree: Tree, correct: list[int]) -> list[int]:
            return passed(tree, [node for node in correct if usable(tree, node)])

        def arm(reflection: bool):
            return linearize(
                trees,
                accept=accept,
                make=lambda tree, chosen: make(
                    tree,
                    candidates=chosen,
                    wrong=wrong_terminals(tree, key=domain.canonical, usable=partial(usable, tree)),
                    reflection=reflection,
                ),
            )

        traces, counts = arm(params.reflection)
        direct, _ = arm(False)
        gate = check_traces(
            traces,
            trees,
            list(read_shards(EVAL_SETS, Problem)),
            direct_between=(0.0, 1.0) if params.reflection else (1.0, 1.0),
            max_backtracks=params.max_backtracks,
            to_the_end=params.back_from == "terminal",
            key=domain.identity,
        )
        require(gate, METRICS / "gate_linearize.json", REPORTS / "data_docs")
        write_jsonl(OUT, traces)
        write_jsonl(DIRECT, direct)
        s.finish(LinearizeMetrics(**figures(traces), **counts))


def figures(traces: list[Trace]) -> dict[str, float | int]:
    """The values of LinearizeMetrics that are read off the traces."""
    search = [t for t in traces if t.kind == "search"]
    lengths = [len(t.completion) for t in traces]
    return {
        "traces": len(traces),
        "direct": len(traces) - len(search),
        "search": len(search),
        "backtracks": round(sum(t.backtracks for t in search) / len(search), 6) if search else 0.0,
        "characters": round(sum(lengths) / len(lengths), 3),
        "longest": max(lengths),
    }


if __name__ == "__main__":
    run_stage(main)

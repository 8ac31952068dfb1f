"""Trees -> chains of thought (paper sections 2.3 and 2.4).

    python -m stages.linearize

Two training sets come of the same trees and the same draws: the chains that `linearize.*` asks for, and direct solutions,
as many, for the comparator.

The model is asked where `linearize.filter` is self_eval (it votes on each solution) and where `linearize.writer` is lm (it
rewrites each chain, segment by segment). Its answers are kept as they come: a run that is cut off goes on from them.

Deviations from the paper: 6. by default phrases come from a file and no LM rewrites; 7. a return restates the problem and the
steps that stand, so that a tiny model composes its answer from nearby text; 8. in Countdown the self-evaluation is one vote word
asked for after the solution's own check; 13. false solutions are left out, and wrong answers differ in value; 17. a chain may go
back at a dead end (`linearize.back_from`); 21. the LM writes one segment at a time, each checked; reflection and return begin
with a phrase of the file, and a chain is dropped from both training sets or from none.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from astro.cloning.judge import passing
from astro.cloning.rewrite import in_both
from astro.cloning.template import Phrases, load_phrases
from astro.cloning.traces import linearize, traces_of
from astro.cloning.walk import correct_terminals, lowest_value, wrong_terminals
from astro.domains import Domain, get_domain
from astro.domains.chat import chat_for
from astro.domains.editing import get_editor
from astro.engines.api import EngineError
from astro.engines.asking import LateEngine, ask_rewrites, ask_votes, ballot_id
from astro.engines.opening import open_engine
from astro.gates import check_traces, require
from astro.runtime import UserError, read_shards, run_stage, write_jsonl
from schemas.linearize import LinearizeMetrics
from schemas.records import Problem, Trace, Tree
from stages.harness import METRICS, REPORTS, Stage, stage

OUT = Path("data/traces/train.jsonl")
DIRECT = Path("data/traces/direct.jsonl")
TREES = Path("data/trees")
MODEL = Path("models/base")
EVAL_SETS = Path("data/problems/eval")
NOT_ASKED = ("linearize.self_eval.min_share", "linearize.lm.max_dropped")
"""Bounds on which no answer of the model depends: another bound does not cost the answers."""


class Asking:
    """The model that votes and rewrites, and the work folder in which its answers are kept."""

    def __init__(self, s, domain: Domain, work: Path):
        self.folder = work
        self.engine = LateEngine(partial(open_engine, s.params.engine, s.params.execution, MODEL))
        self.settings = {
            "domain": domain,
            "seed": s.params.run.seed,
            "engine": self.engine,
            "concurrency": s.params.execution.concurrency,
        }


@contextlib.contextmanager
def asking(s: Stage, domain: Domain) -> Iterator[Asking | None]:
    """What a filter or a writer that needs the model asks it with; None: neither does."""
    if s.params.linearize.filter != "self_eval" and s.params.linearize.writer != "lm":
        yield None
        return
    with s.work(without=NOT_ASKED) as work:
        found = Asking(s, domain, work)
        try:
            yield found
        except EngineError as error:
            raise UserError(f"{error}; the answers that came are kept and will be used") from None
        finally:
            found.engine.close()


def make_filter(s: Stage, domain: Domain, trees: list[Tree], usable, ask: Asking | None):
    """`accept(tree, correct terminals)` of the chosen filter."""
    params = s.params.linearize
    if params.filter == "value":
        return lambda tree, correct: [i for i in correct if lowest_value(tree, i) >= params.min_value]
    if params.filter == "self_eval":
        asked = [(tree, node) for tree in trees for node in correct_terminals(tree) if usable(tree, node)]
        ballots = ask_votes(asked, settings=params.self_eval, kept=ask.folder / "votes.jsonl", **ask.settings)
        return lambda tree, correct: passing(
            correct,
            ask=lambda nodes: [ballots[ballot_id(tree, node)] for node in nodes],
            sound=lambda node: domain.vote_prompt(tree.problem, tree.steps(node))[1],
            min_share=params.self_eval.min_share,
        )
    return lambda tree, correct: correct


def make_check(s: Stage, domain: Domain):
    """`usable(tree, terminal node)`: whether the domain's checker passes the solution (always, without `checked`)."""
    known: dict[tuple[str, int], bool] = {}
    if not s.params.linearize.checked:
        return lambda tree, node: True

    def usable(tree: Tree, node: int) -> bool:
        if (tree.problem.id, node) not in known:  # both training sets and the filter ask
            known[tree.problem.id, node] = domain.checked(tree.problem, tree.steps(node))
        return known[tree.problem.id, node]

    return usable


def write_by_lm(s: Stage, arms: list[list[Trace]], trees: list[Tree], phrases: Phrases, ask: Asking):
    """The training sets in the model's words, and RewriteMetrics.

    Raises:
        UserError: more than `linearize.lm.max_dropped` of the examples is lost.
    """
    settings, domain = s.params.linearize.lm, ask.settings["domain"]
    editor = get_editor(domain, shots=settings.shots, phrases=phrases.all())
    found = ask_rewrites(
        [trace for arm in arms for trace in arm],
        trees,
        editor=editor,
        stop=editor.stop,
        settings=settings,
        kept=ask.folder / "rewrites.jsonl",
        **ask.settings,
    )
    kept, metrics = in_both(arms, found, step_end=domain.step_end)
    if metrics.left_out > settings.max_dropped:
        reasons = ", ".join(f"{name} {n}" for name, n in metrics.dropped_for.model_dump().items() if n)
        raise UserError(
            f"linearize.lm.max_dropped: {metrics.left_out:.0%} of the examples are lost, more than {settings.max_dropped:.0%}: "
            f"{metrics.dropped} of {metrics.chains} chains could not be rewritten ({reasons}; docs/linearize.md says what each "
            "means). Raise it (the rewrites are kept), or linearize.lm.retries, or set on_failure: template, or let a better "
            "model write"
        )
    return kept, metrics


def main() -> None:
    """Write data/traces/train.jsonl and direct.jsonl."""
    with stage("linearize") as s:
        trees = list(read_shards(TREES, Tree))
        phrases = load_phrases(Path(s.params.linearize.phrase_file))
        domain = get_domain(s.params.run.domain, chat=chat_for(s.params.run.prompt, MODEL))
        with asking(s, domain) as ask:
            (traces, direct), counts = both_arms(s, domain, trees, phrases, ask)
            if s.params.linearize.writer == "lm":
                (traces, direct), counts["rewrites"] = write_by_lm(s, [traces, direct], trees, phrases, ask)
            write(s, domain, traces, direct, trees)
        s.finish(LinearizeMetrics(**figures(traces), **counts))


def both_arms(
    s: Stage, domain: Domain, trees: list[Tree], phrases: Phrases, ask: Asking | None
) -> tuple[list[list[Trace]], dict]:
    """The two training sets as the template writes them, and what became of the trees in the first."""
    params = s.params.linearize
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
    usable = make_check(s, domain)
    passed = make_filter(s, domain, trees, usable, ask)

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
    return [traces, direct], counts


def write(s: Stage, domain: Domain, traces: list[Trace], direct: list[Trace], trees: list[Tree]) -> None:
    """Gate the chains and write both files."""
    params = s.params.linearize
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

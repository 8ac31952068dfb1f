"""Turn search trees into chains of thought (paper sections 2.3 and 2.4).

    python -m stages.linearize

The same trees and the same random draws give two training sets of equal size: chains as `linearize.*` describes them,
and direct solutions for the baseline.

The model is used if `linearize.filter` is self_eval (it votes on each solution) or `linearize.writer` is lm (it
rewrites each chain, segment by segment). Its answers are stored as they arrive, so an interrupted run continues.

Deviations from the paper: 6. by default phrases come from a file and no LM rewrites; 7. a return restates the problem
and the remaining steps, so that a tiny model composes its answer from nearby text; 8. in Countdown the self-evaluation
is one vote word after the solution's own check; 13. false solutions are left out, and wrong answers differ in value;
17. a chain may go back at a dead end (`linearize.back_from`); 21. the LM writes one segment at a time, and each is
checked; reflection and return begin with a phrase of the file, and a chain is dropped from both training sets or from
neither.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from astro.cloning.example_selection import Accept, accepted, traces_of
from astro.cloning.rewrite import RewriteFigures, Rewritten, chain_id
from astro.cloning.self_eval import passing
from astro.cloning.verbalize import Phrases, load_phrases
from astro.cloning.walk import correct_terminals, lowest_value, wrong_terminals
from astro.execution.job_runner import Runner, open_runner, run_jobs
from astro.execution.result_store import ResultStore
from astro.execution.vote_and_rewrite_jobs import (
    Ballot,
    Candidate,
    Draft,
    RewriteJobs,
    VoteJobs,
    ballot_id,
    candidate_of,
    draft_of,
)
from astro.files import atomic_path, read_jsonl, read_shards, write_jsonl
from astro.process import UserError, run_stage
from astro.tasks import Task, get_task
from astro.tasks.chat import chat_for
from astro.validation import check_traces, require
from schemas.linearize import LinearizeMetrics, RewriteMetrics
from schemas.records import Problem, Trace, Tree
from schemas.strict import Strict
from stages.harness import METRICS, REPORTS, Stage, stage

OUT = Path("data/traces/train.jsonl")
DIRECT = Path("data/traces/direct.jsonl")
TREES = Path("data/trees")
MODEL = Path("models/base")
EVAL_SETS = Path("data/problems/eval")
NOT_ASKED = ("linearize.self_eval.min_share", "linearize.lm.max_dropped", "linearize.gate")
"""Limits that do not affect the model's answers, so that a new limit can reuse the stored answers."""


class Example(Strict):
    """A chain and its direct counterpart."""

    trace: Trace
    direct: Trace


Examples = Iterator[tuple[Tree, Example]]
"""Examples in the order of the trees, each with its tree."""

FEW = 0.2
"""Share of chains with a return below which the arms hardly differ."""


@dataclass
class Asking:
    """The model that votes on solutions and rewrites chains.

    Attributes:
        work: folder in which its answers are stored.
    """

    work: Path
    runner: Runner


@contextlib.contextmanager
def asking(s: Stage) -> Iterator[Asking | None]:
    """Open the model if a filter or writer needs it; yields None if neither does."""
    if s.params.linearize.filter != "self_eval" and s.params.linearize.writer != "lm":
        yield None
        return
    with s.work(without=NOT_ASKED) as work, open_runner(s.params.engine, s.params.execution, MODEL) as runner:
        yield Asking(work, runner)


@contextlib.contextmanager
def filtering(s: Stage, task: Task, ask: Asking | None) -> Iterator[Accept]:
    """Yield `accept(tree, correct terminals)` of the chosen filter. Terminals that the task's checker rejects are excluded."""
    params = s.params.linearize
    usable = checker(s, task)
    if params.filter == "value":
        yield lambda tree, correct: [
            i for i in correct if usable(tree, i) and lowest_value(tree, i) >= params.min_value
        ]
    elif params.filter == "self_eval":
        assert ask is not None  # this filter uses the model
        with contextlib.closing(ResultStore(ask.work / "votes.sqlite", Ballot)) as ballots:
            vote(s, ballots, usable, ask)

            def accept(tree: Tree, correct: list[int]) -> list[int]:
                return passing(
                    [
                        node for node in correct if ballot_id(tree, node) in ballots
                    ],  # the others were not usable, so nobody voted on them
                    ask=lambda nodes: [ballots[ballot_id(tree, node)].votes for node in nodes],
                    sound=lambda node: task.vote_prompt(tree.problem, tree.steps(node))[1],
                    min_share=params.self_eval.min_share,
                )

            yield accept
    else:
        yield lambda tree, correct: [i for i in correct if usable(tree, i)]


def vote(s: Stage, ballots: ResultStore[Ballot], usable: Callable[[Tree, int], bool], ask: Asking) -> None:
    """Let the model vote on every usable correct solution."""
    settings, run, asked = s.params.linearize.self_eval, s.params.run, ask.work / "candidates.jsonl"
    write_jsonl(
        asked,
        (
            candidate_of(tree, node)
            for tree in read_shards(TREES, Tree)
            for node in correct_terminals(tree)
            if usable(tree, node)
        ),
    )
    run_jobs(
        VoteJobs(settings, run.spec, run.seed, chat_for(run.prompt, MODEL)),
        lambda: read_jsonl(asked, Candidate),
        store=ballots,
        runner=ask.runner,
        in_flight=max(1, s.params.execution.concurrency // settings.votes),
        label="linearize",
        unit="solutions",
    )


def checker(s: Stage, task: Task) -> Callable[[Tree, int], bool]:
    """`usable(tree, terminal node)`: whether the solution passes the task's checker. Always true without `checked`."""
    if not s.params.linearize.require_sound_steps:
        return lambda tree, node: True
    return lambda tree, node: task.checked(tree.problem, tree.steps(node))


def by_template(s: Stage, task: Task, phrases: Phrases, accept: Accept, counts: dict[str, int]) -> Examples:
    """Write the examples by the template. The fate of the trees is added to `counts`."""
    params, usable = s.params.linearize, checker(s, task)
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
        prompt=task.prompt,
        step_end=task.step_end,
        abandoned=task.abandoned,
        restate=task.restate,
    )
    for tree in read_shards(TREES, Tree):
        if chosen := accepted(tree, accept=accept, counts=counts):
            wrong = wrong_terminals(tree, key=task.canonical, usable=partial(usable, tree))
            arms = (
                make(tree, candidates=chosen, wrong=wrong, reflection=reflection)
                for reflection in (params.reflection, False)
            )
            for trace, direct in zip(*arms, strict=True):
                yield tree, Example(trace=trace, direct=direct)


def with_trees(path: Path) -> Examples:
    """Read the examples of a file, with their trees. They are in the order of the trees."""
    trees = read_shards(TREES, Tree)
    tree = None
    for example in read_jsonl(path, Example):
        while tree is None or tree.problem.id != example.trace.problem_id:
            tree = next(trees)
        yield tree, example


@contextlib.contextmanager
def by_lm(
    s: Stage, task: Task, phrases: Phrases, examples: Examples, ask: Asking, figures: RewriteFigures
) -> Iterator[Examples]:
    """The examples in the model's words. Statistics are added to `figures`, and examples with a dropped chain are left out."""
    settings, run, drafts = s.params.linearize.lm, s.params.run, ask.work / "drafts.jsonl"
    write_jsonl(drafts, (example for _, example in examples))

    def chains() -> Iterator[Draft]:
        for tree, example in with_trees(drafts):  # equal chains are rewritten once
            yield from {chain_id(t): draft_of(tree, t, task) for t in (example.trace, example.direct)}.values()

    def told(store: ResultStore[Rewritten]) -> Examples:
        for tree, example in with_trees(drafts):
            arms = [example.trace, example.direct]
            found = {chain_id(t): store[chain_id(t)] for t in arms}
            if texts := figures.retold(arms, found, step_end=task.step_end):
                yield tree, Example(trace=texts[0], direct=texts[1])

    with contextlib.closing(ResultStore(ask.work / "rewrites.sqlite", Rewritten)) as store:
        run_jobs(
            RewriteJobs(settings, run.spec, run.seed, tuple(phrases.all()), chat_for(run.prompt, MODEL)),
            chains,
            store=store,
            runner=ask.runner,
            in_flight=s.params.execution.concurrency,
            label="linearize",
            unit="chains",
        )
        yield told(store)


def require_most(s: Stage, metrics: RewriteMetrics) -> None:
    """Stop if too many training examples were lost.

    Raises:
        UserError: more than `linearize.lm.max_dropped` of the examples are lost.
    """
    most = s.params.linearize.lm.max_dropped
    if metrics.left_out > most:
        reasons = ", ".join(f"{name} {n}" for name, n in metrics.dropped_for.model_dump().items() if n)
        raise UserError(
            f"linearize.lm.max_dropped: {metrics.left_out:.0%} of the examples are lost, more than {most:.0%}: "
            f"{metrics.dropped} of {metrics.chains} chains could not be rewritten ({reasons}; docs/linearize.md "
            "explains each reason). Raise it (the rewrites are kept), raise linearize.lm.retries, set on_failure: "
            "template, or use a better model"
        )


def main() -> None:
    """Write data/traces/train.jsonl and direct.jsonl."""
    with stage("linearize") as s:
        params = s.params.linearize
        if not any(TREES.glob("*.jsonl")):
            raise UserError(f"{TREES}: contains no .jsonl file")
        phrases = load_phrases(Path(params.phrase_file))
        run = s.params.run
        task = get_task(run.spec, chat=chat_for(run.prompt, MODEL), answers=run.answers)
        counts = {"trees_used": 0, "trees_unsolved": 0, "trees_filtered": 0}
        figures, rewrites = TraceFigures(), RewriteFigures()
        with asking(s) as ask, filtering(s, task, ask) as accept, contextlib.ExitStack() as stack:
            examples = by_template(s, task, phrases, accept, counts)
            if params.writer == "lm":
                assert ask is not None, "a writer that needs the model has it"
                examples = stack.enter_context(by_lm(s, task, phrases, examples, ask, rewrites))
            write(s, task, examples, figures, rewrites)
        metrics = figures.metrics() | counts
        if params.writer == "lm":
            metrics["rewrites"] = rewrites.metrics()
        s.finish(LinearizeMetrics(**metrics))


def write(s: Stage, task: Task, examples: Examples, figures: "TraceFigures", rewrites: RewriteFigures) -> None:
    """Write both files while examples arrive, check them by the gate, and publish them."""
    params = s.params.linearize
    with (
        atomic_path(OUT) as traces,
        atomic_path(DIRECT) as direct,
        traces.open("wb") as traces_file,
        direct.open("wb") as direct_file,
    ):

        def written() -> Iterator[tuple[Trace, Tree]]:
            for tree, example in examples:
                traces_file.write(example.trace.model_dump_json().encode() + b"\n")
                direct_file.write(example.direct.model_dump_json().encode() + b"\n")
                figures.add(example.trace)
                yield example.trace, tree

        gate = check_traces(
            written(),
            list(read_shards(EVAL_SETS, Problem)),
            direct_between=(0.0, 1.0) if params.reflection else (1.0, 1.0),
            max_backtracks=params.max_backtracks,
            max_answer_share=params.gate.max_answer_share,
            to_the_end=params.back_from == "terminal",
            key=task.identity,
        )
        if params.writer == "lm":
            require_most(s, rewrites.metrics())
        require(gate, METRICS / "gate_linearize.json", REPORTS / "data_docs")
        if params.reflection and figures.share < FEW:
            print(
                f"[linearize] warning: {figures.share:.0%} of the chains go back; such chains need trees with right "
                "and wrong ends, so check valid in metrics/mcts.json and raise mcts.num_simulations",
                flush=True,
            )


class TraceFigures:
    """Computes the figures of LinearizeMetrics, one trace at a time."""

    def __init__(self) -> None:
        self._traces = self._search = self._backtracks = self._characters = self._longest = 0

    def add(self, trace: Trace) -> None:
        """Count one trace."""
        self._traces += 1
        self._search += trace.kind == "search"
        self._backtracks += trace.backtracks
        self._characters += len(trace.completion)
        self._longest = max(self._longest, len(trace.completion))

    @property
    def share(self) -> float:
        """Share of chains with at least one return."""
        return self._search / self._traces if self._traces else 0.0

    def metrics(self) -> dict:
        """The figures, for at least one trace."""
        return {
            "traces": self._traces,
            "direct": self._traces - self._search,
            "search": self._search,
            "backtracks": round(self._backtracks / self._search, 6) if self._search else 0.0,
            "characters": round(self._characters / self._traces, 3),
            "longest": self._longest,
        }


if __name__ == "__main__":
    run_stage(main)

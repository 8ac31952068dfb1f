"""What linearize asks a model for: votes on solutions, and chains in other words. Every answer is kept as it comes, so that a
kill loses nothing; the engine is opened only when something is missing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import Field

from astro.cloning.rewrite import Ask, Editor, Piece, Rewritten, chain_id, pieces_of, rewrite
from astro.engines.api import Engine, Request
from astro.engines.feed import Job, run_searches
from astro.engines.searches import rendered
from astro.runtime import Journal, Progress
from astro.search import Sample
from astro.search.seeds import node_seed
from schemas.base import Strict
from schemas.records import Problem, Trace, Tree

if TYPE_CHECKING:
    from astro.domains import Domain
    from schemas.linearize import RewriteParams, SelfEvalParams

R = TypeVar("R", bound="Strict")


class Ballot(Strict):
    """The votes on one solution."""

    id: str = Field(min_length=1, description="<problem id>/<node>")
    votes: list[str]


class LateEngine:
    """`Engine` that is opened by its first request: who finds all answers kept needs none."""

    def __init__(self, opened: Callable[[], Engine]) -> None:
        self._open, self._engine = opened, None

    def submit(self, request: Request) -> int:
        """As `Engine.submit`.

        Raises:
            EngineError: it cannot be opened, or failed.
        """
        if self._engine is None:
            self._engine = self._open()
        return self._engine.submit(request)

    def poll(self) -> list[tuple[int, list[Sample]]]:
        """As `Engine.poll`."""
        return self._engine.poll()

    def close(self) -> None:
        """As `Engine.close`; harmless if it was never opened."""
        if self._engine is not None:
            self._engine.close()


def run_kept(
    jobs: Mapping[str, Callable[[], Job]],
    *,
    kept: Path,
    record: type[R],
    engine: Engine,
    in_flight: int,
    unit: str,
) -> dict[str, R]:
    """The results of jobs by id; those that stand in `kept` are not done again, new ones are appended to it as they come.

    Args:
        jobs: id -> begins a job; its result is a record with that id.
        kept: JSON lines of `record`.
        in_flight: jobs that go on at once.
        unit: what the progress counts.

    Raises:
        EngineError, SearchError: as `run_searches`; what has come so far is kept.
        UserError: a line of `kept` is broken.
    """
    journal = Journal(kept, record)
    found = {result.id: result for result in journal.done if result.id in jobs}
    missing = [identifier for identifier in jobs if identifier not in found]
    if found and missing:
        print(
            f"[linearize] goes on: {len(found)} of {len(jobs)} {unit} are there from a run that was cut off", flush=True
        )
    progress = Progress("linearize", len(jobs), unit=unit, start=len(found))
    try:
        begun = ((identifier, jobs[identifier]()) for identifier in missing)
        for identifier, result in run_searches(begun, engine=engine, in_flight=in_flight):
            journal.append(result)
            found[identifier] = result
            progress.update(len(found))
    finally:
        journal.close()
    return found


def ballot_id(tree: Tree, node: int) -> str:
    """Of the votes on the solution that ends at `node`."""
    return f"{tree.problem.id}/{node}"


def ask_votes(
    asked: Iterable[tuple[Tree, int]],
    *,
    domain: "Domain",
    settings: "SelfEvalParams",
    seed: int,
    kept: Path,
    engine: Engine,
    concurrency: int,
) -> dict[str, list[str]]:
    """`ballot_id` -> votes, for (tree, terminal node) pairs. Raises: as `run_kept`."""

    def job(tree: Tree, node: int) -> Job:
        steps = tree.steps(node)
        request = Request(
            prompt=domain.vote_prompt(tree.problem, steps)[0],
            n=settings.votes,
            max_tokens=settings.max_tokens,
            temperature=1.0,
            stop=(),
            seed=node_seed(seed, tree.problem.id, ["vote", *steps], "rollout"),
            logprobs=False,
        )
        (samples,) = yield [request]
        return Ballot(id=ballot_id(tree, node), votes=[sample.text for sample in samples])

    jobs = {ballot_id(tree, node): lambda tree=tree, node=node: job(tree, node) for tree, node in asked}
    in_flight = max(1, concurrency // settings.votes)
    found = run_kept(jobs, kept=kept, record=Ballot, engine=engine, in_flight=in_flight, unit="solutions")
    return {identifier: ballot.votes for identifier, ballot in found.items()}


def rewrite_job(
    trace: Trace,
    problem: Problem,
    pieces: Sequence[Piece],
    *,
    editor: Editor,
    stop: tuple[str, ...],
    settings: "RewriteParams",
    seed: int,
) -> Job:
    """The rewriting of one chain as requests. Each try has a seed of its own: of the run, the problem, the chain's number within
    the tree, the segment and the try, and of nothing else."""
    number = trace.id.removeprefix(f"{problem.id}/")

    def request(ask: Ask) -> Request:
        return Request(
            prompt=ask.prompt,
            n=1,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            stop=stop,
            seed=node_seed(seed, problem.id, ["rewrite", number, str(ask.segment), str(ask.attempt)], "rollout"),
            logprobs=False,
        )

    chain = rewrite(
        chain_id(trace), problem, pieces, editor=editor, retries=settings.retries, on_failure=settings.on_failure
    )
    return rendered(chain, request)


def ask_rewrites(
    traces: Iterable[Trace],
    trees: Iterable[Tree],
    *,
    domain: "Domain",
    editor: Editor,
    stop: tuple[str, ...],
    settings: "RewriteParams",
    seed: int,
    kept: Path,
    engine: Engine,
    concurrency: int,
) -> dict[str, Rewritten]:
    """`chain_id` -> what became of it, for chains that the template wrote; equal ones are asked for once.

    Raises: as `run_kept`.
    """
    by_problem = {tree.problem.id: tree for tree in trees}

    def job(trace: Trace) -> Job:
        tree = by_problem[trace.problem_id]
        pieces = pieces_of(
            tree, trace, step_end=domain.step_end, restate=lambda steps: domain.restate(tree.problem, steps)
        )
        return rewrite_job(trace, tree.problem, pieces, editor=editor, stop=stop, settings=settings, seed=seed)

    jobs = {chain_id(trace): lambda trace=trace: job(trace) for trace in traces}
    return run_kept(jobs, kept=kept, record=Rewritten, engine=engine, in_flight=concurrency, unit="chains")
